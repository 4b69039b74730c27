"""Bringing a virtual node's chain to a head, with the help of one after another of those who report it."""

from __future__ import annotations

from collections.abc import Callable

from p2p.protocol.chain import InvalidRecord, Verify, check_signatures
from p2p.protocol.chain_sync import ChainSync, OtherHistory
from p2p.protocol.holdings import Target
from p2p.protocol.messages import GetRecords, Records
from p2p.protocol.transfer import FetchCore
from swarm.simulate.virtual.donor import Courier
from swarm.simulate.virtual.timeline import ticks

RECORDS_SECONDS = 20.0
"""Patience for an answer."""
PAUSE = ticks(0.5)


class RecordsFetch:
    """Begins at once; `ended(sync)` is called when the chain is there, or when nobody is left to ask."""

    def __init__(
        self,
        node: Courier,
        core: FetchCore,
        target: Target,
        peers: list[str],
        verify: Verify,
        ended: Callable[[ChainSync], None],
    ) -> None:
        self._node, self._core, self._target, self._verify, self._ended = node, core, target, verify, ended
        self._peers = peers
        self._sync = ChainSync(node.chain, target)
        self._asked: GetRecords | None = None
        self._ask()

    def on_records(self, peer: str, message: Records) -> None:
        """Records came, maybe those that we asked for."""
        if self._asked is None or (peer, message.start) != (self._peers[0], self._asked.start):
            return
        self._asked = None
        try:
            for signed in message.records:
                check_signatures(signed, self._verify)
            self._sync.take(message.records)
        except OtherHistory as error:
            self._core.lost(peer, f"sent {error}", self._node.now())
            self._next(lied=True)
        except InvalidRecord as error:
            self._core.lied(peer, f"sent {error}")
            self._next(lied=True)
        except LookupError as error:
            self._core.lost(peer, f"no records: {error}", self._node.now())
            self._next(lied=False)
        else:
            self._ask()

    def link_down(self, peer: str) -> None:
        if self._asked is not None and self._peers[0] == peer:
            self._next(lied=False)

    def _ask(self) -> None:
        if self._sync.done:
            self._ended(self._sync)
        elif not self._peers:
            self._node.after(PAUSE, self._give_up)
        elif self._node.send(self._peers[0], question := self._sync.question()):
            self._asked = question
            self._node.after(ticks(RECORDS_SECONDS), self._late, question)
        else:
            self._core.lost(self._peers[0], "no records: no link", self._node.now())
            self._next(lied=False)

    def _late(self, question: GetRecords, _unused: object) -> None:
        if self._asked is question:
            self._core.lost(self._peers[0], "no records: no answer", self._node.now())
            self._next(lied=False)

    def _next(self, *, lied: bool) -> None:
        """This donor failed; try the next."""
        self._asked = None
        self._peers.pop(0)
        self._sync.undo(lied=lied)
        self._sync = ChainSync(self._node.chain, self._target)
        self._ask()

    def _give_up(self, _one: object, _other: object) -> None:
        self._ended(self._sync)
