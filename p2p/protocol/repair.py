"""The plan of a further attempt: what earlier attempts brought about is kept, only what is missing is done again.

Codes are quantised once a round and added in order of rank, so the mean of a piece depends on its contributors and on
nothing else. When a member is lost, the mean of every piece that it had finished contributing to stands; only what it
owned, or still owed to others, is reduced again among the survivors. Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from p2p.protocol import bitmap
from p2p.protocol.ballot import Ballot
from p2p.protocol.messages import Plan, Promise, Record, Route, Segment
from p2p.protocol.model import MAX_SEGMENTS
from p2p.protocol.pieces import Grid
from p2p.protocol.plan import Head, Rules, draft_of


def adopted(record: Record, ballot: Ballot, holders: Sequence[str]) -> Plan:
    """A plan that brings a record somebody voted for to the members that miss some of its mean.

    `holders`: live seats that hold all of it; they share the work of sending it.
    """
    ranks = [record.members.index(peer) for peer in holders]
    routes = tuple(Route(owner=ranks[i % len(ranks)], done=True) for i in range(len(record.segments)))
    return Plan(ballot=ballot, draft=record, routes=routes)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A segment to be: pieces [first, stop), by names instead of ranks."""

    first: int
    stop: int
    contributors: tuple[str, ...]
    owner: str
    done: bool = False


@dataclass(frozen=True)
class _Scene:
    """What the survivors of `plan` report of it."""

    plan: Plan
    grid: Grid
    promises: Mapping[str, Promise]
    live: frozenset[str]
    owners: Sequence[str]

    def means(self, peer: str, index: int) -> int:
        """Leading pieces of a segment whose mean this peer holds."""
        promise = self.promises[peer]
        if promise.plan is None or promise.plan.ballot != self.plan.ballot or index >= len(promise.means):
            return 0
        return promise.means[index]

    def parts(self, owner: str, index: int, place: int) -> int:
        """Leading pieces that the owner of a segment has from its contributor number `place`."""
        promise = self.promises[owner]
        if promise.plan is None or promise.plan.ballot != self.plan.ballot or index >= len(promise.parts):
            return 0
        counts = promise.parts[index]
        return counts[place] if place < len(counts) else 0


def repaired(
    rules: Rules, head: Head, ballot: Ballot, plan: Plan, promises: Mapping[str, Promise], owners: Sequence[str]
) -> Plan | None:
    """The plan that finishes `plan` among those of its present seats that gave a promise.

    `owners`: whom of them the others all reach. None if nothing can be kept: too few are left, or nobody who trained,
    or what is held where is in too many pieces.
    """
    draft = plan.draft
    live = frozenset(peer for peer in draft.voters if peer in promises)
    if not draft.steps or len(live) < rules.quorum(head) or not any(s.weight for s in draft.seats if s.peer in live):
        return None
    usable = [peer for peer in owners if peer in live] or [peer for peer in draft.voters if peer in live]
    scene = _Scene(plan, Grid(rules.fragments.size(draft.round), draft.piece), promises, live, usable)
    stretches: list[_Stretch] = []
    for index in range(len(draft.segments)):
        stretches += _mended(scene, index)
    if len(stretches) > most_segments(len(draft.seats)):
        return None
    return _plan_of(rules, head, ballot, draft, live, stretches)


def most_segments(seats: int) -> int:
    """Of a plan that is worth repairing."""
    return min(MAX_SEGMENTS, 16 + 4 * seats)


def _mended(scene: _Scene, index: int) -> list[_Stretch]:
    """What becomes of one segment."""
    draft, grid = scene.plan.draft, scene.grid
    members = draft.members
    segment, route = draft.segments[index], scene.plan.routes[index]
    first = draft.segments[index - 1].stop // grid.piece if index else 0
    stop = -(-segment.stop // grid.piece)
    names = tuple(members[rank] for rank in bitmap.unpack(segment.contributors))
    left = tuple(name for name in names if name in scene.live)
    owner = members[route.owner]
    whole = _Stretch(first, stop, names, owner, route.done)
    if owner not in scene.owners or (route.done and scene.means(owner, index) < stop - first):
        return _moved(scene, index, whole, left)
    if route.done or len(left) == len(names):
        return [whole]
    lost = [place for place, name in enumerate(names) if name not in scene.live]
    cut = first + min(stop - first, *(scene.parts(owner, index, place) for place in lost))
    return _nonempty(replace(whole, stop=cut), replace(whole, first=cut, contributors=left))


def _moved(scene: _Scene, index: int, whole: _Stretch, left: tuple[str, ...]) -> list[_Stretch]:
    """A segment whose owner is gone: what is known of its mean is served by who knows most, the rest is shared out."""
    holder = max(scene.owners, key=lambda peer: scene.means(peer, index))
    cut = min(whole.first + scene.means(holder, index), whole.stop)
    kept = replace(whole, stop=cut, owner=holder, done=True)
    rest, count = whole.stop - cut, len(scene.owners)
    turn = [scene.owners[(index + i) % count] for i in range(count)]
    bounds = [cut + rest * i // count for i in range(count + 1)]
    shares = [_Stretch(bounds[i], bounds[i + 1], left, turn[i]) for i in range(count)]
    return _nonempty(kept, *shares)


def _nonempty(*stretches: _Stretch) -> list[_Stretch]:
    return [stretch for stretch in stretches if stretch.first < stretch.stop]


def _plan_of(
    rules: Rules, head: Head, ballot: Ballot, old: Record, live: frozenset[str], stretches: Sequence[_Stretch]
) -> Plan:
    """With the seats of `old`, less those that are lost without a trace."""
    useful = live | {name for stretch in stretches for name in stretch.contributors}
    seats = tuple(seat.model_copy(update={"present": seat.peer in live}) for seat in old.seats if seat.peer in useful)
    rank = {seat.peer: place for place, seat in enumerate(seats)}
    count = rules.fragments.size(old.round)
    segments = tuple(
        Segment(
            stop=min(stretch.stop * old.piece, count),
            contributors=bitmap.pack((rank[name] for name in stretch.contributors), len(seats)),
            digest=b"",
        )
        for stretch in stretches
    )
    draft = draft_of(rules, head, ballot, seats, old.piece, segments, old.state_root)
    routes = tuple(Route(owner=rank[stretch.owner], done=stretch.done) for stretch in stretches)
    return Plan(ballot=ballot, draft=draft, routes=routes)
