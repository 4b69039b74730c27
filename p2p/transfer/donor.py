"""The donor: answers what newcomers ask of state, means and records, beside training and at a bounded rate."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol

from p2p.listener import Listener, nobody
from p2p.protocol.chain import RecordChain
from p2p.protocol.holdings import EMPTY
from p2p.protocol.message import Message
from p2p.protocol.messages import GetRecords, Records
from p2p.protocol.model import BadMessage
from p2p.protocol.patience import Patience
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
from p2p.transfer.state import VALUE_BYTES, StateStore

STALL_SECONDS = 120.0
"""An answer that the peer has not taken by then is given up."""
MOST_PAYLOAD = 16 << 20
SMALL_BYTES = 256 << 10
"""Answers up to this size are given also while a reduce goes on."""
REDUCE_SHARE = 0.25
"""Of all time, at most, in which larger answers wait for a reduce: newcomers must get on, however short rounds are."""
REDUCE_SECONDS = 30.0
"""At a time."""
LOOK_SECONDS = 0.1
"""How often a donor that waits for a reduce looks whether it is over."""
_RECORDS_COST = 64 << 10


class Carrier(Protocol):
    """What state transfer needs of the links to other members; p2p.channel.mesh.Mesh is one."""

    def send(self, peer: str, message: Message) -> bool:
        """Send a small message; False if there is no link."""

    async def send_bulk(self, peer: str, message: Message, buffers: Sequence[memoryview]) -> None:
        """Send a message with payload, waiting for room. Raises ConnectionError when the link is lost."""


class Donor:
    """Answers questions from `store` and `chain`. Use it on the event loop; chunks are copied in `pool`."""

    def __init__(
        self,
        carrier: Carrier,
        store: StateStore,
        chain: RecordChain,
        pool: Executor,
        now: Callable[[], float],
        limits: DeskLimits,
        listener: Listener = nobody,
        reducing: Callable[[], bool] = lambda: False,
    ) -> None:
        """reducing: whether a reduce goes on here, which newcomers shall not slow down."""
        self.closed_because = ""
        """While this is not empty, state is refused with this reason: it is not whole. Records are still given."""
        self.bytes_sent = 0
        """Payload given away since the start."""
        self._carrier, self._store, self._chain, self._pool, self._now = carrier, store, chain, pool, now
        self._listener, self._reducing = listener, reducing
        self._patience = Patience(REDUCE_SHARE, REDUCE_SECONDS)
        self._desk = Desk(limits, VALUE_BYTES * store.count)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def handle(self, peer: str, message: Question) -> None:
        """Queue a question. Raises BadMessage for one that no honest peer asks."""
        size = self._check(message)
        if isinstance(message, GetChunk) and self._desk.crowded(peer, size):
            self._refuse(peer, message, "busy: too many newcomers at once")
        elif self._desk.offer(peer, message, size, self._now()):
            self._pump()
        elif not isinstance(message, GetRecords):
            self._refuse(peer, message, "busy: too many questions at once")

    def withdraw(self, peer: str, message: Withdraw) -> None:
        self._desk.withdraw(peer, message.request)

    def link_down(self, peer: str) -> None:
        self._desk.forget(peer)

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _check(self, message: Question) -> int:
        """Bytes of the answer."""
        store = self._store
        chunks = -(-store.count // store.chunk_values)
        if isinstance(message, GetRecords):
            if message.start < 0:
                raise BadMessage("genesis has no record")
            return _RECORDS_COST
        if isinstance(message, GetManifest):
            return 32 * chunks
        if isinstance(message, GetChunk):
            if message.index >= chunks:
                raise BadMessage(f"chunk {message.index} of {chunks}")
            return VALUE_BYTES * store.chunk_values
        start, stop, block = message.start, message.stop, store.codec.block
        first, last = store.fragments.span(message.round)
        size = store.codec.code_bytes(stop - start) + 4 * store.codec.scale_count(stop - start)
        cut = not (start - first) % block and (stop == last or not (stop - first) % block)
        if not (cut and first <= start < stop <= last):
            raise BadMessage(f"mean of values {start} to {stop} of round {message.round}")
        if size > MOST_PAYLOAD:
            raise BadMessage(f"{size} bytes of a mean at once")
        return size

    def _pump(self) -> None:
        """Start what may start now, and come back when more may."""
        waits = self._patience.waits(self._desk.delay(self._now()) is not None and self._reducing(), self._now())
        most = SMALL_BYTES if waits else math.inf
        for peer, message in self._desk.overdue(self._now()):
            self._refuse(peer, message, "busy: others come first")
        while not self._closed and (job := self._desk.take(self._now(), most)) is not None:
            task = asyncio.create_task(self._answer(*job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        delay = self._desk.delay(self._now())
        if waits and delay is not None:
            delay = max(delay, LOOK_SECONDS)
        if delay is not None and self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(delay, self._pump_again)

    def _pump_again(self) -> None:
        self._timer = None
        self._pump()

    async def _answer(self, peer: str, message: Question) -> None:
        given = 0
        try:
            async with asyncio.timeout(STALL_SECONDS):
                if isinstance(message, GetRecords):
                    await self._give_records(peer, message)
                elif isinstance(message, GetManifest):
                    given = await self._give_manifest(peer, message)
                elif isinstance(message, GetChunk):
                    given = await self._give_chunk(peer, message)
                elif isinstance(message, GetMean):
                    given = await self._give_mean(peer, message)
        except TimeoutError:
            reason = f"it did not take its {message.KIND} answer within {STALL_SECONDS:g} s"
            self._listener("answer_dropped", {"peer": peer, "reason": reason})
        except ConnectionError:
            pass  # the peer has gone, which its link has told
        finally:
            self._desk.finished(peer, message, given, self._now())
            self._pump()

    async def _give_records(self, peer: str, message: GetRecords) -> None:
        loop = asyncio.get_running_loop()
        try:
            records = await loop.run_in_executor(self._pool, self._chain.records, message.start, message.limit)
        except OSError:
            records = ()  # unreadable here; others have them
        self._carrier.send(peer, Records(start=message.start, records=records))

    async def _give_manifest(self, peer: str, message: GetManifest) -> int:
        digests = self._store.manifests.get(message.round)
        if self.closed_because or digests is None:
            return self._refuse(peer, message, self.closed_because or f"no manifest of round {message.round}")
        answer = Manifest(request=message.request, round=message.round)
        return await self._give(peer, answer, [memoryview(b"".join(digests))])

    async def _give_chunk(self, peer: str, message: GetChunk) -> int:
        round, data = EMPTY, bytearray()
        if not self.closed_because:
            loop = asyncio.get_running_loop()
            round, data = await loop.run_in_executor(self._pool, self._store.read, message.index)
        if self.closed_because or round == EMPTY:
            return self._refuse(peer, message, self.closed_because or "no state yet")
        answer = Chunk(request=message.request, round=round, index=message.index)
        return await self._give(peer, answer, [memoryview(data)])

    async def _give_mean(self, peer: str, message: GetMean) -> int:
        mean = self._store.means.get(message.round)
        if mean is None:
            return self._refuse(peer, message, f"the mean of round {message.round} is not kept here")
        first, _ = self._store.fragments.span(message.round)
        piece = mean.slice(message.start - first, message.stop - first)
        answer = MeanSlice(request=message.request, round=message.round, start=message.start, stop=message.stop)
        return await self._give(peer, answer, piece.buffers())

    async def _give(self, peer: str, answer: Message, buffers: Sequence[memoryview]) -> int:
        """Bytes of payload that were sent."""
        await self._carrier.send_bulk(peer, answer, buffers)
        size = sum(buffer.nbytes for buffer in buffers)
        self.bytes_sent += size
        return size

    def _refuse(self, peer: str, message: StateQuestion, reason: str) -> int:
        """Bytes of payload that were sent: none."""
        self._carrier.send(peer, NotAvailable(request=message.request, reason=reason))
        return 0
