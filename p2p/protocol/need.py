"""Whether a node that holds no state, or an old one, has to fetch it, from whom, and when it may begin instead. Pure.

The shells of real and of virtual nodes ask it, each with the store that it has.
"""

from __future__ import annotations

from collections.abc import Callable

from p2p.protocol.chain import RecordChain
from p2p.protocol.chain_sync import knows
from p2p.protocol.holdings import Source
from p2p.protocol.messages import Status
from p2p.protocol.round import RoundCore

STRANDED_SECONDS = 60.0
"""How long a node whose fetch has lost all its donors waits for one of them to come back."""


class Need:
    """What the board says about the state that we hold."""

    def __init__(
        self, core: RoundCore, chain: RecordChain, whole_at: Callable[[int], bool], empty: Callable[[], bool]
    ) -> None:
        """`whole_at(round)`: whether the store holds the state after that round, and all of it; `empty`: whether it
        holds nothing at all, not even the first parameters.
        """
        self._core, self._chain, self._whole_at, self._empty = core, chain, whole_at, empty
        self._stranded_since: float | None = None

    def donors(self, now: float) -> list[str]:
        """Live peers whose state is newer than ours, or the right one for our head."""
        statuses, empty = self.others(now), self._empty()
        ahead = [peer for peer, s in statuses.items() if s.state_root and self._core.lead.is_ahead(s)]
        return ahead or [peer for peer, s in statuses.items() if self._core.has_our_state(s, empty)]

    def sources(self, now: float) -> list[Source]:
        """The donors and what they hold; peers of a lighter lineage are not among them."""
        statuses = self.others(now)
        return [Source(p, statuses[p].height, statuses[p].head, statuses[p].state_root) for p in self.donors(now)]

    def goes_on(self, now: float) -> bool:
        """Whether to go on fetching. If all waited for donors that are gone, nobody would have a state to give."""
        return bool(self.donors(now)) or not self._holds_newest(now)

    def may_begin(self, may_found: bool, now: float) -> bool:
        """Whether what we hold is a state to go on from, and the newest, as far as we can see."""
        founded = any(s.phase != "syncing" and s.height == -1 for s in self.others(now).values())
        head = self._core.board.head
        return self._holds_newest(now) and (head.record is not None or may_found or founded)

    def stranded(self, now: float) -> bool:
        """Whether a fetch has begun to replace what we held, and for long nobody has been there to go on with it."""
        if self._empty() or self._holds_own() or self.donors(now):
            self._stranded_since = None
        elif self._stranded_since is None:
            self._stranded_since = now
        return self._stranded_since is not None and now - self._stranded_since > STRANDED_SECONDS

    def others_hold_state(self, now: float) -> bool:
        """Whether anybody else here holds a state."""
        return any(status.state_root for status in self.others(now).values())

    def others(self, now: float) -> dict[str, Status]:
        """The statuses of live peers."""
        board = self._core.board
        return {peer: s for peer, s in board.statuses.items() if peer != board.me and board.alive(peer, now)}

    def _holds_newest(self, now: float) -> bool:
        """Whether we hold our head's state, and nobody is ahead, even one that cannot give its state yet."""
        return self._holds_own() and not any(self._core.lead.is_ahead(s) for s in self.others(now).values())

    def _holds_own(self) -> bool:
        """Whether our head's state and record are there: a fetch may have begun to replace them."""
        head = self._core.board.head
        return self._whole_at(head.height) and knows(self._chain, head.height, head.hash)
