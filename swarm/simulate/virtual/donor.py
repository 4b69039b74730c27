"""A virtual node's donor: the shell that p2p.transfer.donor is, on the same desk, with content instead of bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from p2p.protocol.chain import RecordChain
from p2p.protocol.holdings import EMPTY
from p2p.protocol.message import Message
from p2p.protocol.messages import GetRecords, Records
from p2p.protocol.serving import Desk, DeskLimits, Question, StateQuestion
from p2p.protocol.transfer_messages import (
    Chunk,
    GetChunk,
    GetManifest,
    GetMean,
    Manifest,
    MeanSlice,
    NotAvailable,
    Withdraw,
)
from swarm.simulate.virtual.content import CHUNKS
from swarm.simulate.virtual.store import VirtualStore
from swarm.simulate.virtual.timeline import ticks

CHUNK_BYTES = 8 << 20
MEAN_BYTES = 1 << 20
"""Of one chunk's slice of a mean."""
RECORDS_BYTES = 64 << 10


class Courier(Protocol):
    """What a shell needs of its node."""

    @property
    def store(self) -> VirtualStore: ...

    @property
    def chain(self) -> RecordChain: ...

    def now(self) -> float:
        """Seconds of the node's own clock."""

    def after(self, delay: int, function: Callable[..., None], one: object = None, other: object = None) -> None:
        """A timer of the node, void when it dies."""

    def send(self, peer: str, message: Message) -> bool:
        """False if there is no link."""

    def send_bulk(self, peer: str, message: Message, content: object, size: int) -> int | None:
        """Ticks until it has left; None if there is no link."""


class VirtualDonor:
    """Answers from the node's store and chain, in the order and at the rate that the desk allows."""

    def __init__(self, node: Courier, limits: DeskLimits) -> None:
        self.closed_because = ""
        """While this is not empty, state is refused."""
        self._node = node
        self._desk = Desk(limits, CHUNKS * CHUNK_BYTES)
        self._timer = False

    def handle(self, peer: str, message: Question) -> None:
        size = _size(message)
        if isinstance(message, GetChunk) and self._desk.crowded(peer, size):
            self._refuse(peer, message, "busy: too many newcomers at once")
        elif self._desk.offer(peer, message, size, self._node.now()):
            self._pump()
        elif not isinstance(message, GetRecords):
            self._refuse(peer, message, "busy: too many questions at once")

    def withdraw(self, peer: str, message: Withdraw) -> None:
        self._desk.withdraw(peer, message.request)

    def link_down(self, peer: str) -> None:
        self._desk.forget(peer)

    def _pump(self, _one: object = None, _other: object = None) -> None:
        for peer, message in self._desk.overdue(self._node.now()):
            self._refuse(peer, message, "busy: others come first")
        while (job := self._desk.take(self._node.now())) is not None:
            busy = self._answer(*job)
            self._node.after(busy, self._finished, job, _size(job[1]) if busy else 0)
        delay = self._desk.delay(self._node.now())
        if delay is not None and not self._timer:
            self._timer = True
            self._node.after(ticks(delay) + 1, self._pump_again)

    def _pump_again(self, _one: object, _other: object) -> None:
        self._timer = False
        self._pump()

    def _finished(self, job: tuple[str, Question], given: int) -> None:
        self._desk.finished(*job, given, self._node.now())
        self._pump()

    def _answer(self, peer: str, message: Question) -> int:
        """Ticks until the answer has left."""
        store, node = self._node.store, self._node
        if isinstance(message, GetRecords):
            node.send(peer, Records(start=message.start, records=node.chain.records(message.start, message.limit)))
            return 0
        assert isinstance(message, GetManifest | GetChunk | GetMean)
        if self.closed_because:
            return self._refuse(peer, message, self.closed_because)
        if isinstance(message, GetManifest):
            digests = store.manifests.get(message.round)
            if digests is None:
                return self._refuse(peer, message, f"no manifest of round {message.round}")
            return self._give(peer, Manifest(request=message.request, round=message.round), digests, 32 * CHUNKS)
        if isinstance(message, GetChunk):
            round, digest = store.rounds[message.index], store.chunks[message.index]
            if round == EMPTY:
                return self._refuse(peer, message, "no state yet")
            answer = Chunk(request=message.request, round=round, index=message.index)
            return self._give(peer, answer, digest, CHUNK_BYTES)
        mean = store.means.get(message.round)
        if mean is None:
            return self._refuse(peer, message, f"the mean of round {message.round} is not kept here")
        slice_ = MeanSlice(request=message.request, round=message.round, start=message.start, stop=message.stop)
        return self._give(peer, slice_, mean, MEAN_BYTES)

    def _give(self, peer: str, answer: Message, content: object, size: int) -> int:
        return self._node.send_bulk(peer, answer, content, size) or 0

    def _refuse(self, peer: str, message: StateQuestion, reason: str) -> int:
        self._node.send(peer, NotAvailable(request=message.request, reason=reason))
        return 0


def _size(message: Question) -> int:
    """Bytes of the answer."""
    if isinstance(message, GetRecords):
        return RECORDS_BYTES
    if isinstance(message, GetManifest):
        return 32 * CHUNKS
    return CHUNK_BYTES if isinstance(message, GetChunk) else MEAN_BYTES
