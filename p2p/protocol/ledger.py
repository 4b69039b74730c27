"""The ledger: who may train on which samples, and which are spoken for. Pure functions on `Ledger`.

Invariant kept by `settle`: committed samples, `free` ranges and all `assigned` ranges are disjoint and together are
exactly [0, cursor). So whatever the history of membership, no sample is committed twice and none is skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from p2p.protocol.messages import Assignment, Ledger, Seat
from p2p.protocol.model import Range

EMPTY = Ledger(cursor=0, free=(), assigned=())


class BadClaim(ValueError):
    """A member claims samples that were not its own."""


def merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same samples as sorted, maximal ranges."""
    result: list[Range] = []
    for start, stop in sorted(ranges):
        if start >= stop:
            continue
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(stop, result[-1][1]))
        else:
            result.append((start, stop))
    return tuple(result)


def subtract(whole: Iterable[Range], taken: Iterable[Range]) -> tuple[Range, ...]:
    """The samples of `whole` that are not in `taken`. One pass over both, however many ranges a peer sends."""
    holes, hole = merged(taken), 0
    result: list[Range] = []
    for start, stop in merged(whole):
        while hole < len(holes) and holes[hole][0] < stop:
            hole_start, hole_stop = holes[hole]
            if start < hole_start:
                result.append((start, hole_start))
            start = max(start, hole_stop)
            if start >= stop:
                break  # the hole may reach into the next range, too
            hole += 1
        if start < stop:
            result.append((start, stop))
    return tuple(result)


def size(ranges: Iterable[Range]) -> int:
    """Number of samples in disjoint ranges."""
    return sum(stop - start for start, stop in ranges)


def take(ranges: Sequence[Range], count: int) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
    """The first `count` samples of `ranges` (fewer if there are no more), and the rest."""
    taken: list[Range] = []
    rest: list[Range] = []
    for start, stop in ranges:
        middle = min(stop, start + count)
        if start < middle:
            taken.append((start, middle))
        if middle < stop:
            rest.append((middle, stop))
        count -= middle - start
    return tuple(taken), tuple(rest)


def assigned_to(ledger: Ledger, peer: str) -> tuple[Range, ...]:
    """The ranges that `peer` may train on."""
    return next((assignment.ranges for assignment in ledger.assigned if assignment.peer == peer), ())


def trained_by(ledger: Ledger, peer: str) -> tuple[int, ...]:
    """Tokens of `peer` in the last rounds, the newest last."""
    return next((assignment.trained for assignment in ledger.assigned if assignment.peer == peer), ())


def check_claim(ledger: Ledger, peer: str, used: Sequence[Range]) -> None:
    """Raise BadClaim if `peer` used samples that were not assigned to it, or one twice."""
    if used:
        _check_used(assigned_to(ledger, peer), peer, used)


def _check_used(assigned: tuple[Range, ...], peer: str, used: Sequence[Range]) -> None:
    twice = len(used) > 1 and size(used) != size(merged(used))
    if twice or (used != assigned and subtract(used, assigned)):
        raise BadClaim(f"{peer} claims samples that were not assigned to it")


@lru_cache(maxsize=8)
def settle(ledger: Ledger, seats: tuple[Seat, ...], quota: int, fragments: int = 1) -> Ledger:
    """The ledger after a round with these seats; those present are also the next view and get `quota` samples each.

    What the seats used is committed. What a member that goes on has not used stays its own, because it may be training
    on that already; all else that was assigned, to members who are gone, returns to the pool and is handed out first.
    Its tokens of the last `fragments` - 1 rounds, in which the next round's fragment was not averaged, stay known.
    Raises BadClaim if a seat used samples that were not assigned to it, or one twice. Remembered for a while, because
    each attempt at a round asks again: who drafts it, who is sent it, who votes, who appends it to the chain.
    """
    own = {assignment.peer: assignment.ranges for assignment in reversed(ledger.assigned)}
    trained = {assignment.peer: assignment.trained for assignment in reversed(ledger.assigned)}
    for seat in seats:
        _check_used(own.get(seat.peer, ()), seat.peer, seat.used)
    view = [seat for seat in seats if seat.present]
    kept = {seat.peer: take(subtract(own.get(seat.peer, ()), seat.used), quota)[0] for seat in view}
    outstanding = [span for assignment in ledger.assigned for span in assignment.ranges]
    spoken_for = [span for seat in seats for span in (*seat.used, *kept.get(seat.peer, ()))]
    pool = merged((*ledger.free, *subtract(outstanding, spoken_for)))
    cursor = ledger.cursor
    assigned: list[Assignment] = []
    for seat in view:
        ranges = kept[seat.peer]
        more, pool = take(pool, quota - size(ranges))
        missing = quota - size(ranges) - size(more)
        ranges = merged((*ranges, *more, (cursor, cursor + missing)))
        last = (*trained.get(seat.peer, ()), seat.tokens)[1 - fragments :] if fragments > 1 else ()
        assigned.append(Assignment(peer=seat.peer, ranges=ranges, trained=last))
        cursor += missing
    return Ledger(cursor=cursor, free=pool, assigned=tuple(assigned))
