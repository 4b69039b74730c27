"""Who is further than we are. Nobody drives or joins a round that may be committed already."""

from __future__ import annotations

from p2p.protocol.board import Board
from p2p.protocol.messages import Status

ASK_SECONDS = 0.5
"""How long a commit that others already have may still be on its way to us before we ask for it."""
MEET_SECONDS = 10.0
"""How long after our start we drive no round while members of the view are still to be met; and for how long we join
none that we know to be committed while nobody is met who has its record."""


class Lead:
    """What the board says of the lead that others have."""

    def __init__(self, board: Board, now: float) -> None:
        self._board = board
        self._meets_until = now + MEET_SECONDS
        self._missed = (-1, now)
        """The newest round that we know to be committed without us, and until when that forbids us to go on from the
        one before."""
        self._since: float | None = None
        """Since when somebody is ahead."""
        self._living: set[str] | None = None
        """Who was alive when we last looked for those ahead."""
        self._asked_at = now

    def new_round(self, now: float) -> None:
        """Our head is another one."""
        self._since = now if self._ahead(now) else None

    def on_status(self, peer: str, status: Status, now: float) -> None:
        if self._since is None and self._leads(peer, status, now):
            self._since = now

    def missed(self, round: int, now: float) -> None:
        """A valid record of this round came, and we could not apply it."""
        self._missed = round, now + MEET_SECONDS

    def outrun(self, now: float) -> bool:
        """Whether the round in progress here may be committed elsewhere."""
        round, until = self._missed
        return self._since is not None or (now < until and self._board.round <= round)

    def may_drive(self, now: float) -> bool:
        """Whether we know enough of the others to coordinate them."""
        return not self.outrun(now) and not (now < self._meets_until and self._board.unmet(self._board.head.view))

    def to_ask(self, now: float) -> str | None:
        """Who has the most of those ahead, if it is time to do something about it: see ASK_SECONDS."""
        living = self._board.liveness.living(now)
        if self._since is None and living is self._living:
            return None  # nobody was ahead; who has moved since then, or is alive again, was looked at
        self._living = living
        ahead = self._board.once("ahead", now, lambda: self._ahead(now))
        if not ahead:
            self._since = None
            return None
        if self._since is None:
            self._since = now
        if now - self._since < ASK_SECONDS or now - self._asked_at < ASK_SECONDS:
            return None
        self._asked_at = now
        statuses = self._board.statuses
        return max(ahead, key=lambda peer: (statuses[peer].tokens_total, statuses[peer].height))

    def is_ahead(self, status: Status) -> bool:
        """Whether its sender is further than we are: more tokens committed, then more rounds, then the smaller hash.

        So of two lineages that grew apart in a partition, all members choose the same one.
        """
        head = self._board.head
        theirs, ours = (status.tokens_total, status.height), (head.tokens_total, head.height)
        return theirs > ours or (theirs == ours and status.head < head.hash)

    def _ahead(self, now: float) -> list[str]:
        ours = self._board.head.hash
        others = [(peer, status) for peer, status in self._board.statuses.items() if status.head != ours]
        return [peer for peer, status in others if self._leads(peer, status, now)]

    def _leads(self, peer: str, status: Status, now: float) -> bool:
        """Whether the peer can give us what we miss."""
        return self.is_ahead(status) and status.phase != "syncing" and self._board.alive(peer, now)
