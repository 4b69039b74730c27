"""The board: the last `Status` of every node, ours among them, and who of them is alive.

Both sides of the committed round read it: what a member and what a coordinator decides is a function of the board. A
status may be as old as a heartbeat, so what must not be wrong is asked of the members themselves (promises, votes).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

from p2p.protocol.ballot import Ballot
from p2p.protocol.liveness import Liveness, tag
from p2p.protocol.messages import Ready, Status
from p2p.protocol.plan import Head, Rules, objection_to
from p2p.protocol.shares import Rates

ATTEMPTS_AHEAD = 1 << 16
"""An attempt whose number is higher than ours by more is nobody's honest word."""
FROZEN_SECONDS = 20.0
"""A trainer that stands still for so long, and much longer than it ever took for a step, is not waited for."""
FROZEN_STEPS = 5.0
SUCCESSORS = 3
"""How many are told at once that a member is missed: enough that one of them lives to tell the rest."""

T = TypeVar("T")


@dataclass(slots=True)
class _Pace:
    """How a peer's training moves, by our clock."""

    step: int
    since: float
    longest: float = 0.0


class Board:
    """What `me` knows of the round that follows `head`."""

    def __init__(self, me: str, rules: Rules) -> None:
        self.me = me
        self.rules = rules
        self.head = Head(rules.fingerprint)
        """The record that the round in progress follows; `follow` changes it."""
        self.round = self.head.height + 1
        """The round in progress."""
        self.liveness = Liveness(me)
        self.statuses: dict[str, Status] = {}
        self._silent: dict[str, frozenset[str]] = {}
        """Who misses whom; those who miss nobody are left out."""
        self._missed_by: dict[str, set[str]] = {}
        """The same the other way round."""
        self._paces: dict[str, _Pace] = {}
        self._rank: tuple[tuple[str, ...], dict[str, int]] = ((), {})
        self._known: dict[str, Any] = {}
        """What was read off the board since it last changed, by question."""
        self._known_living: set[str] | None = None
        self._objections: dict[str, tuple[Ready, str]] = {}
        """What speaks against the last report of each peer that follows the head."""

    def follow(self, head: Head) -> None:
        """From now on the round in progress is the one that follows `head`."""
        self.head, self.round = head, head.height + 1
        self._known.clear()
        self._objections.clear()

    def once(self, question: str, now: float, answer: Callable[[], T]) -> T:
        """The answer, which must hang on nothing but statuses, head and who is alive; sought again when these change.

        Every message and every tick ask the same few questions of a board that seldom changes.
        """
        living = self.liveness.living(now)
        if living is not self._known_living:
            self._known.clear()
            self._known_living = living
        if question not in self._known:
            self._known[question] = answer()
        found: T = self._known[question]
        return found

    def post(self, peer: str, status: Status, now: float) -> bool:
        """Put up a peer's newer status; True if it says anything new."""
        before = self.statuses.get(peer)
        if before is not None and status.sequence <= before.sequence:
            return False
        self.statuses[peer] = status
        silent = frozenset([other for other, _ in status.silent]) if status.silent else _NOBODY
        news = before is None or _said(before) != _said(status)
        if news or silent != self._silent.get(peer, _NOBODY):
            self._known.clear()
            self._note_silence(peer, silent)
        if peer == self.me:
            return True
        self.liveness.heard(peer, status.hears, now)
        if status.phase == "leaving":
            self.liveness.left(peer, now)
        self._note_pace(peer, status, now)
        return news

    def linked(self, peer: str, now: float) -> None:
        """A link came up. What the peer said last holds until it speaks again; if it restarted, it counts from 1. That
        others missed it was said before it came back, or they will say so again."""
        self.liveness.linked(peer, now)
        for other in self._missed_by.pop(peer, ()):
            self._silent[other] -= {peer}
        self._known.clear()
        if (status := self.statuses.get(peer)) is not None:
            self.statuses[peer] = status.model_copy(update={"sequence": 0})

    def forget(self, peer: str) -> None:
        """Drop what is known of a peer that is gone for good."""
        self.liveness.forget(peer)
        self.statuses.pop(peer, None)
        self._note_silence(peer, _NOBODY)
        self._paces.pop(peer, None)
        self._objections.pop(peer, None)
        self._known.clear()

    # --- who is alive, and does what ---------------------------------------------------------------------------------

    def alive(self, peer: str, now: float) -> bool:
        """Whether the peer is alive and means to stay."""
        status = self.statuses.get(peer)
        return status is not None and status.phase != "leaving" and self.liveness.alive(peer, now)

    def here(self, now: float) -> list[str]:
        """Live nodes, maybe we, that say they hold the state of our head: those who can take part in the round."""

        def found() -> list[str]:
            head, living = self.head.hash, self.liveness.living(now)
            return [
                peer
                for peer, status in self.statuses.items()
                if status.head == head
                and status.phase not in ("syncing", "leaving")
                and (peer in living or peer == self.me)
            ]

        return self.once("here", now, found)

    def possible(self, now: float) -> list[str]:
        """Live nodes, maybe we, that are at our head or, for all we know, on their way to it."""
        head = self.head
        return [
            peer
            for peer, status in self.statuses.items()
            if status.phase != "syncing"
            and (status.head == head.hash or (status.height < head.height and peer in head.view))
            and self.alive(peer, now)
        ]

    def absent(self, now: float) -> set[str]:
        """Members of the view that are not here; none of them once another live node holds state."""
        others = {peer: status for peer, status in self.statuses.items() if peer != self.me and self.alive(peer, now)}
        if any(status.state_root for status in others.values()):
            return set()
        return set(self.head.view) - {self.me, *others}

    def expected(self, now: float) -> list[str]:
        """Live members of the view: those that a coordinator waits for."""
        return [peer for peer in self.head.view if self.alive(peer, now) and self.statuses[peer].phase != "syncing"]

    def ready(self, now: float) -> dict[str, Ready]:
        """Who is ready for the round from the state that most of the ready hold."""

        def found() -> dict[str, Ready]:
            reports = {
                peer: status.ready
                for peer in self.here(now)
                if (status := self.statuses[peer]).ready is not None
                and status.ready.round == self.round
                and status.state_root
                and not self.objection(peer, status)
            }
            root = self.state_root(reports)
            return {peer: ready for peer, ready in reports.items() if ready and self.statuses[peer].state_root == root}

        return self.once("ready", now, found)

    def objection(self, peer: str, status: Status) -> str:
        """Why this is nothing that an honest peer reports from our head; empty if it is."""
        ready = status.ready
        if ready is None or ready.round != self.round or status.head != self.head.hash:
            return ""
        known = self._objections.get(peer)
        if known is None or (known[0] is not ready and known[0] != ready):
            known = self._objections[peer] = (ready, objection_to(self.head, peer, ready))
        return known[1]

    def state_root(self, peers: Collection[str]) -> bytes:
        """The state root that most of `peers` report (a tie goes to ours, then to the smaller); empty for nobody."""
        counts = Counter(self.statuses[peer].state_root for peer in sorted(peers))
        mine = self.statuses[self.me].state_root if self.me in self.statuses else b""
        return min(counts, key=lambda root: (-counts[root], root != mine, root), default=b"")

    def differs(self, mine: bytes, now: float) -> bool:
        """Whether most of those who hold the state of our head hold other bytes than `mine`, our root; empty for none.

        When all have spoken and one half is against the other, the coordinator's bytes are the right ones: two members
        alone cannot know whose memory failed, and must not wait for each other for ever.
        """

        def found() -> bool:
            held = {peer: root for peer in self.here(now) if (root := self.statuses[peer].state_root)}
            if not mine or set(held.values()) <= {mine}:
                return False
            counts = Counter(held.values())
            rightful = held.get(self.coordinator(now) or "", b"")
            most = max(counts, key=lambda root: (counts[root], root == rightful, root))
            if most == mine:
                return False
            tie = 2 * counts[most] == len(held) and most == rightful and len(held) == len(self.possible(now))
            return tie or 2 * counts[most] > len(held)

        return self.once("differs", now, found)

    def frozen(self, peer: str, now: float) -> bool:
        """Whether a live peer's training stands still for far longer than it ever did before."""
        pace, status = self._paces.get(peer), self.statuses.get(peer)
        if pace is None or status is None or status.phase != "training" or not pace.longest:
            return False
        return now - pace.since > max(FROZEN_SECONDS, FROZEN_STEPS * pace.longest)

    def _note_pace(self, peer: str, status: Status, now: float) -> None:
        pace = self._paces.get(peer)
        if pace is None or status.phase != "training":
            longest = pace.longest if pace is not None else 0.0
            self._paces[peer] = _Pace(status.inner_step, now, longest)
        elif status.inner_step != pace.step:
            pace.longest = max(pace.longest, now - pace.since)
            pace.step, pace.since = status.inner_step, now

    def unmet(self, peers: Iterable[str]) -> list[str]:
        """Those of `peers` whom others heard, while we, who have just come or woken, have no word of them yet."""
        return [peer for peer in peers if peer not in self.statuses and self.liveness.vouched(peer)]

    def rates(self, peers: Iterable[str]) -> dict[str, Rates]:
        """The speed of their links, as they say."""
        return {peer: Rates(*self.statuses[peer].rates) for peer in peers}

    # --- who reaches whom --------------------------------------------------------------------------------------------

    def parted(self, peer: str, others: Collection[str], now: float) -> bool:
        """Whether `peer` and one of the live `others` say that they miss each other."""
        apart = (*self._silent.get(peer, ()), *self._missed_by.get(peer, ()))
        return any(other in others and self.alive(other, now) for other in apart if other != peer)

    def _note_silence(self, peer: str, silent: frozenset[str]) -> None:
        """`peer` misses these, as it says."""
        before = self._silent.pop(peer, _NOBODY)
        if silent:
            self._silent[peer] = silent
        for other in before - silent:
            self._missed_by[other].discard(peer)
        for other in silent - before:
            self._missed_by.setdefault(other, set()).add(peer)

    # --- who drives the round ----------------------------------------------------------------------------------------

    def in_reach(self, ballot: Ballot) -> bool:
        """Whether it is about our round, and of an attempt that may come about; so there is always one beyond it."""
        mine = self.statuses[self.me].promised if self.me in self.statuses else None
        ours = (ballot.round, ballot.lineage) == (self.round, self.head.lineage)
        return ours and ballot.attempt <= ATTEMPTS_AHEAD + (mine.attempt if mine else 0)

    def highest_promise(self, now: float) -> Ballot | None:
        """The highest ballot of this round that anybody here has promised."""

        def found() -> Ballot | None:
            promises = [self.statuses[peer].promised for peer in self.here(now)]
            several = {id(ballot): ballot for ballot in promises if ballot is not None}
            return max(filter(self.in_reach, several.values()), key=Ballot.key, default=None)

        return self.once("highest promise", now, found)

    def coordinator(self, now: float) -> str | None:
        """Who drives the round: whoever holds the highest promise, else the first live member of the view; but rather
        one that reaches all others. Before there is a view, the smallest peer id of those who are ready."""
        return self.once("coordinator", now, lambda: self._coordinator(now))

    def successors(self) -> list[str]:
        """Who would drive the round next: the first of the view whom our last word says that we hear."""
        hears = set(self.statuses[self.me].hears)
        return list(itertools.islice((peer for peer in self.head.view if tag(peer) in hears), SUCCESSORS))

    def _coordinator(self, now: float) -> str | None:
        promise = self.highest_promise(now)
        view = self.head.view
        able = (peer for peer in (*self._owners(promise), *view) if self._may_drive(peer, now))
        first = next(able, None)
        if first is None:
            ready = (peer for peer in self.here(now) if self.statuses[peer].ready is not None)
            return min(ready, default=None)
        if len(view) <= 2 or not self.parted(first, view, now):  # of two that miss each other neither can judge
            return first
        return next((peer for peer in able if not self.parted(peer, view, now)), first)

    def _owners(self, ballot: Ballot | None) -> list[str]:
        """Whose ballot it is; nobody's if there is none."""
        if ballot is None:
            return []
        view = self.head.view
        if ballot.rank < len(view):
            return [view[ballot.rank]]
        return [peer for peer in self.statuses if self.rank(peer) == ballot.rank]

    def _may_drive(self, peer: str, now: float) -> bool:
        """Alive, and for all we know at our head or on its way to it."""
        return self.alive(peer, now) and self.statuses[peer].phase != "syncing"

    def rank(self, peer: str) -> int:
        """Rank in the view. Who is not in it ranks behind, by peer id: no two coordinators share a ballot."""
        view = self.head.view
        if self._rank[0] is not view:
            self._rank = (view, {name: place for place, name in enumerate(view)})
        place = self._rank[1].get(peer)
        return place if place is not None else len(view) + int.from_bytes(peer.encode()[-6:], "big")


_NOBODY: frozenset[str] = frozenset()


_said = attrgetter("head", "state_root", "phase", "promised", "ready", "vote", "height")
"""What a coordinator acts on at once; the rest can wait for the next tick."""
