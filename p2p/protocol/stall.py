"""Why a reduce does not move: a member that does nothing, or two that do not reach each other. Pure.

The owner of a segment must reach all others, a mere contributor only the owners. So when two members miss each other
while the rest reaches both, neither is made an owner, and the round goes on with both of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from p2p.protocol.board import Board
from p2p.protocol.messages import Plan

STALL_SECONDS = 15.0
"""A reduce in which no member got a piece from another for so long is tried again; for longer, where links are known to
be slow (`StallWatch.limit`), and twice, four times ... as long where doing without somebody did not help."""
MOST_STALL_SECONDS = 60.0
_VALUE_BYTES = 4
"""Of the widest codec."""
PARTED_SECONDS = 3.0
"""The same, when two members are known to miss each other."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A new attempt is due, and why."""

    reason: str
    blamed: str = ""
    """Whom to do without; empty if nobody."""


class StallWatch:
    """Watches the attempts at one round."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._blames = 0
        self._apart: set[frozenset[str]] = set()
        """Pairs that stalled an attempt."""
        self._plan: Plan | None = None
        self._since = 0.0
        self._progress: tuple[int, ...] = ()

    def begin(self, plan: Plan, now: float) -> None:
        """An attempt begins."""
        self._plan, self._since, self._progress = plan, now, ()

    def reach_all(self, members: Collection[str], now: float) -> list[str]:
        """Those of `members` that all others reach, as far as is known; if there are none, all of them."""
        return [peer for peer in members if not self._parted_from(peer, members, now)] or list(members)

    def _parted_from(self, peer: str, members: Collection[str], now: float) -> bool:
        stalled = any(peer in pair and pair <= set(members) for pair in self._apart)
        return stalled or self.board.parted(peer, members, now)

    def judge(self, waiting: Sequence[str], now: float) -> Verdict | None:
        """Whether to try again; `waiting`: members whose vote is missing."""
        assert self._plan is not None
        statuses = self.board.statuses
        progress = tuple(statuses[peer].moved for peer in waiting)
        if progress != self._progress:
            self._progress, self._since = progress, now
        still = now - self._since
        if still > PARTED_SECONDS and (pair := self._known_pair(now)) is not None:
            self._apart.add(pair)
            return Verdict(f"{' and '.join(sorted(pair))} do not reach each other")
        if still <= STALL_SECONDS or still <= self.limit():
            return None
        verdict = self._blame(waiting)
        self._blames += bool(verdict.blamed)
        return verdict

    def limit(self) -> float:
        """Seconds without any progress that an attempt is given.

        Somebody who sends a piece to every other at the same time ends them all at the same time, so the least that
        may be asked for is all of that over the slowest link that is known.
        """
        assert self._plan is not None
        draft = self._plan.draft
        known = [rate for peer in draft.voters for rate in self.board.statuses[peer].rates if rate]
        slowest = min(known, default=math.inf)
        all_at_once = len(draft.voters) * draft.piece * _VALUE_BYTES / slowest
        return min(max(STALL_SECONDS * 2.0**self._blames, all_at_once), MOST_STALL_SECONDS)

    def _known_pair(self, now: float) -> frozenset[str] | None:
        """An owner and another member that say they miss each other, and were not yet told apart."""
        assert self._plan is not None
        draft = self._plan.draft
        owners = {draft.members[route.owner] for route in self._plan.routes}
        for owner in sorted(owners):
            for other in draft.voters:
                pair = frozenset((owner, other))
                if len(pair) == 2 and pair not in self._apart and self.board.parted(owner, (other,), now):
                    return pair
        return None

    def _blame(self, waiting: Sequence[str]) -> Verdict:
        """First whoever never took the plan; then a pair that seems parted; then whoever most of them wait for."""
        assert self._plan is not None
        statuses = self.board.statuses
        for peer in waiting:
            if statuses[peer].promised != self._plan.ballot:
                return Verdict(f"no progress: {peer} does not follow the plan", peer)
        waits = {peer: statuses[peer].waiting_on for peer in waiting}
        # whoever waits for a third one is late for a reason
        roots = [(p, other) for p, others in waits.items() for other in others if set(waits.get(other, ())) <= {p}]
        counts = Counter(other for _, other in roots)
        for peer, other in roots:
            pair = frozenset((peer, other))
            if counts[other] == 1 and pair not in self._apart:
                self._apart.add(pair)
                return Verdict(f"no progress: {peer} waits for {other}")
        counts = counts or Counter(other for others in waits.values() for other in others)
        blamed = max(counts, key=lambda other: (counts[other], other), default=waiting[-1])
        return Verdict(f"no progress: most wait for {blamed}", blamed)
