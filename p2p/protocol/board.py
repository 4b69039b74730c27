"""The board: the last `Status` of every node, ours among them, and who of them is alive.

Both sides of the committed round read it: what a member and what a coordinator decides is a function of the board.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from p2p.protocol.liveness import Liveness
from p2p.protocol.messages import Ballot, Ready, Status
from p2p.protocol.plan import Head, Rules


class Board:
    """What `me` knows of the round that follows `head`."""

    def __init__(self, me: str, rules: Rules) -> None:
        self.me = me
        self.rules = rules
        self.head = Head(rules.fingerprint)
        self.liveness = Liveness(me)
        self.statuses: dict[str, Status] = {}

    @property
    def round(self) -> int:
        """The round in progress."""
        return self.head.height + 1

    def post(self, peer: str, status: Status, now: float) -> bool:
        """Put up a peer's newer status; False for one that is older than what hangs there."""
        before = self.statuses.get(peer)
        if before is not None and status.sequence <= before.sequence:
            return False
        self.statuses[peer] = status
        if peer == self.me:
            return True
        self.liveness.heard(peer, status.hears, now)
        if status.phase == "leaving":
            self.liveness.left(peer, now)
        return True

    def alive(self, peer: str, now: float) -> bool:
        """Whether the peer is alive and means to stay."""
        status = self.statuses.get(peer)
        return status is not None and status.phase != "leaving" and self.liveness.alive(peer, now)

    def here(self, now: float) -> list[str]:
        """Live nodes, maybe we, that hold the state of our head: those who can take part in the round."""
        return [
            peer
            for peer, status in self.statuses.items()
            if status.head == self.head.hash and status.phase != "syncing" and self.alive(peer, now)
        ]

    def expected(self, now: float) -> list[str]:
        """Live members of the view: those that a coordinator waits for."""
        return [peer for peer in self.head.view if self.alive(peer, now)]

    def ready(self, now: float) -> dict[str, Ready]:
        """Who is ready for the round from the state that most of the ready hold."""
        reports = {
            peer: status.ready
            for peer in self.here(now)
            if (status := self.statuses[peer]).ready is not None
            and status.ready.round == self.round
            and status.state_root
        }
        root = self.state_root(reports)
        return {peer: ready for peer, ready in reports.items() if ready and self.statuses[peer].state_root == root}

    def state_root(self, peers: Collection[str]) -> bytes:
        """The state root that most of `peers` report (a tie goes to ours, then to the smaller); empty for nobody."""
        names = [peer for peer in self.statuses if peer in peers]
        counts = Counter(self.statuses[peer].state_root for peer in names)
        mine = self.statuses[self.me].state_root if self.me in self.statuses else b""
        return min(counts, key=lambda root: (-counts[root], root != mine, root), default=b"")

    def highest_promise(self, now: float) -> Ballot | None:
        """The highest ballot of this round that anybody here has promised."""
        promises = [self.statuses[peer].promised for peer in self.here(now)]
        current = [ballot for ballot in promises if ballot is not None and ballot.round == self.round]
        return max(current, key=Ballot.key, default=None)

    def coordinator(self, now: float) -> str | None:
        """Who drives the round: whoever holds the highest promise, while here; else the first of the view who is here.

        Before there is a view, the smallest peer id of those who are ready.
        """
        here = set(self.here(now))
        promise = self.highest_promise(now)
        if promise is not None:
            owner = next((peer for peer in here if self.rank(peer) == promise.rank), None)
            if owner is not None:
                return owner
        first = next((peer for peer in self.head.view if peer in here), None)
        if first is not None:
            return first
        return min((peer for peer in here if self.statuses[peer].ready is not None), default=None)

    def rank(self, peer: str) -> int:
        """Rank in the view. Who is not in it ranks behind, by peer id: no two coordinators share a ballot."""
        view = self.head.view
        return view.index(peer) if peer in view else len(view) + int.from_bytes(peer.encode()[-6:], "big")
