"""One attempt at a reduce: moves the bytes that the butterfly's books (p2p/protocol/butterfly.py) speak of.

Tasks: one that quantises our codes, one that reduces the pieces we own, senders for each other member, one that
digests each finished segment. Receiving is done by the carrier, straight into the buffers handed out here. All numeric
work is done in the pool, in batches of pieces; the event loop only keeps the books.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from ops.codec import Codec
from ops.encoded import Encoded, copy_encoded
from p2p.channel.tuning import LONG_WAY_SECONDS
from p2p.protocol.butterfly import Butterfly
from p2p.protocol.carry import Carried
from p2p.protocol.messages import Go, Mean, Part
from p2p.reduce.carrier import Carrier
from p2p.reduce.contribution import Contribution
from p2p.reduce.early import EarlyPart
from p2p.reduce.means import Job, MeanWriter, segment_digest, write_mean, write_means
from p2p.reduce.payload import Incoming, Packer
from p2p.reduce.recycler import Recycler
from p2p.reduce.uplink import Stream, Uplink

log = logging.getLogger(__name__)

ENCODE_BATCH_VALUES = 2 * 1024 * 1024
"""Values quantised by one job in the pool."""
REDUCE_BATCH_PIECES = 4
"""Pieces reduced by one job in the pool, at most."""
SENDERS_AHEAD = 1
"""Frames under way to each peer beyond one for each lane: while those wait for room, the next is ready."""
SHARE_SECONDS = 0.1
"""The uplink is divided anew so often: short beside a reduce, and beside the time in which queues fill."""
TAKE_OVER = 0.75
"""When so much is left of the connections that shared the uplink, they may look for the room that the others left."""


Parts = dict[tuple[str, int], Encoded]
"""(contributor, piece of ours) -> its codes."""


@dataclass(frozen=True, slots=True, eq=False)
class Remains:
    """What an attempt that ended leaves behind: its books, and the memory that they speak of."""

    core: Butterfly
    mean: Encoded
    parts: Parts

    def carry(self, carried: Carried, mean: Encoded) -> None:
        """In the pool: copy the means that are of further use. The old memory is not used again: a late frame or a
        kernel of the ended attempt may still write to it."""
        grid = self.core.grid
        for piece in carried.means:
            bounds = grid.start(piece), grid.start(piece + 1)
            copy_encoded(self.mean.slice(*bounds), mean.slice(*bounds))


class Attempt:
    """Starts at once; `done` is awaited by the reducer. Goes on serving the others until `stop`."""

    def __init__(
        self,
        core: Butterfly,
        codec: Codec,
        mean: Encoded,
        parts: Parts,
        contribution: Contribution | None,
        carrier: Carrier,
        pool: Executor,
        recycler: Recycler,
        write: MeanWriter = write_mean,
        *,
        first: bool = True,
    ) -> None:
        """`codec`: of parts. `mean` and `parts` hold what `core` says it was carried over from an earlier attempt.
        `first`: there was none, so others hold next to nothing yet."""
        self.core = core
        self.ballot = core.ballot
        self.stopped = False
        self._mean = mean
        self._codec = codec
        self._contribution = contribution
        self._carrier = carrier
        self._pool = pool
        self._recycler = recycler
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._packer = Packer(pool, recycler, len(core.voters) - 1)
        self._arriving: dict[tuple[str, str, int], Incoming] = {}
        self._parts: Parts = dict(parts)
        self._free: list[Encoded] = []
        self._digests: dict[int, bytes] = {}
        self.done: asyncio.Future[tuple[bytes, ...]] = self._loop.create_future()
        """The digests of all segments."""
        self._ready = asyncio.Event()
        self._wake = {peer: asyncio.Event() for peer in core.voters if peer != core.members[core.rank]}
        self._under_way = dict.fromkeys(self._wake, 0)
        """Frames that the links have not taken whole."""
        self._links_lost = dict.fromkeys(self._wake, 0)
        self._sharing = len(self._wake)
        """Of the others, those who had not got everything when they last began to share the uplink."""
        self._kernels: set[asyncio.Task[None]] = set()
        self._senders: set[asyncio.Task[None]] = set()
        self._employed = dict.fromkeys(self._wake, 0)
        """Senders."""
        self._spawn(self._kernels, self._quantise())
        self._spawn(self._kernels, self._reduce())
        if first:
            self._presume()
        self._employ_senders()
        self._send_gos()
        self._digest_finished()

    def _spawn(self, group: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        group.add(task)
        task.add_done_callback(group.discard)
        task.add_done_callback(self._notice_failure)

    def _notice_failure(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if self.done.done():
            log.error("reduce %s failed after its end", self.ballot, exc_info=error)
        else:
            self.done.set_exception(error)

    # --- kernels -------------------------------------------------------------------------------------------------

    async def _quantise(self) -> None:
        pieces = self.core.to_encode()
        while pieces:
            assert self._contribution is not None
            size = max(1, ENCODE_BATCH_VALUES // self.core.grid.piece)
            batch, pieces = pieces[:size], pieces[size:]
            await self._contribution.ensure(self._bounds(piece) for piece in batch)
            for piece in batch:
                self.core.encoded(piece)
            self._ready.set()
            self._wake_senders()

    async def _reduce(self) -> None:
        while True:
            pieces = self.core.ready(REDUCE_BATCH_PIECES)
            if not pieces:
                self._ready.clear()
                await self._ready.wait()
                continue
            jobs = [self._job(piece) for piece in pieces]
            await self._loop.run_in_executor(self._pool, write_means, self._write, jobs)
            for piece in pieces:
                self._release(piece)
                self.core.reduced(piece)
            self._send_gos()
            self._wake_senders()
            self._digest_finished()

    def _job(self, piece: int) -> Job:
        stretch = self.core.routes.of(piece)
        parts = [self._part_of(rank, piece) for rank in stretch.contributors]
        start, stop = self._bounds(piece)
        return parts, stretch.weights, start, self._mean.slice(start, stop)

    def _bounds(self, piece: int) -> tuple[int, int]:
        return self.core.grid.start(piece), self.core.grid.start(piece + 1)

    def _part_of(self, rank: int, piece: int) -> Encoded:
        if rank != self.core.rank:
            return self._parts[self.core.members[rank], piece]
        assert self._contribution is not None
        return self._contribution.codes.slice(*self._bounds(piece))

    def _digest_finished(self) -> None:
        for index in self.core.finished():
            self._spawn(self._kernels, self._digest(index))

    async def _digest(self, index: int) -> None:
        stretches, grid = self.core.routes.stretches, self.core.grid
        segment = self._mean.slice(grid.start(stretches[index].first), grid.start(stretches[index].stop))
        self._digests[index] = await self._loop.run_in_executor(self._pool, segment_digest, segment)
        if len(self._digests) == len(stretches) and not self.done.done():
            self.done.set_result(tuple(self._digests[index] for index in range(len(stretches))))

    # --- sending -------------------------------------------------------------------------------------------------

    def _presume(self) -> None:
        """Whoever is linked with us takes some parts before it asks for them (p2p/reduce/early.py)."""
        for peer in self._wake:
            if self._carrier.lanes(peer):
                self.core.presume(peer)

    def _send_gos(self) -> None:
        for peer, go in self.core.gos():
            if not self._carrier.send(peer, go):
                self.core.go_failed(peer)

    def _wake_senders(self) -> None:
        for wake in self._wake.values():
            wake.set()

    def _employ_senders(self) -> None:
        """As many as the links have lanes, which may become more."""
        for peer, employed in self._employed.items():
            self._employed[peer] = max(employed, self._carrier.lanes(peer) + SENDERS_AHEAD, 1 + SENDERS_AHEAD)
            for _ in range(employed, self._employed[peer]):
                self._spawn(self._senders, self._send_to(peer))

    async def _send_to(self, peer: str) -> None:
        wake = self._wake[peer]
        while not self.stopped:
            message = self.core.message_for(peer)
            if message is None:
                wake.clear()
                await wake.wait()
                continue
            links_lost = self._links_lost[peer]
            payload = await self._packer.payload(peer, message, self._codes_of(message))
            if self.stopped or self._links_lost[peer] > links_lost:  # nobody waits for it, or will say so
                continue
            self._under_way[peer] += 1
            try:
                await self._carrier.send_bulk(peer, message, payload)
            except ConnectionError:
                # `on_link_down` has told the core. Whether the peer comes back is for others to say; if it does, its Go
                # says what to repeat.
                continue
            finally:
                self._under_way[peer] -= 1

    @property
    def backlogged(self) -> float:
        """Share of the others for whom a frame waits at present until the link takes it."""
        return sum(count > 0 for count in self._under_way.values()) / max(1, len(self._under_way))

    def share_on(self, uplink: Uplink) -> None:
        """`share` from now on, until it is stopped."""
        self._spawn(self._kernels, self._share_on(uplink))

    async def _share_on(self, uplink: Uplink) -> None:
        while True:
            self.share(uplink)
            await asyncio.sleep(SHARE_SECONDS)

    def share(self, uplink: Uplink) -> None:
        """Give each of the others its part of the uplink, and use lanes that have come up."""
        self._employ_senders()
        left = {peer: self._left(peer) for peer in self._wake}
        if not any(left.values()):
            uplink.pause()
            self._carrier.allot({})
            return
        flows = {peer: self._carrier.flow(peer) for peer in left}
        streams = {
            peer: Stream(
                delivered=flow.delivered,
                left=left[peer],
                waiting=self._under_way[peer] > 0 or flow.unsent > 0,
                queued=flow.queued,
                near=flow.round_trip < LONG_WAY_SECONDS,
            )
            for peer, flow in flows.items()
        }
        paces = uplink.read(self._loop.time(), streams)
        self._carrier.allot(paces)
        self._packer.ways = uplink.ways
        for peer in uplink.lagging():
            self._carrier.hasten(peer, left[peer])
        if not paces:
            self._take_over({peer: size for peer, size in left.items() if size})

    def _take_over(self, left: dict[str, int]) -> None:
        """When some of the others have got everything, those that have not are to have the whole uplink."""
        if len(left) <= TAKE_OVER * self._sharing:
            self._sharing = len(left)
            for peer, size in left.items():
                self._carrier.hasten(peer, size)

    def _left(self, peer: str) -> int:
        """Bytes that this peer has yet to get; fewer where they are packed."""
        return int(self.core.left(peer) * self._codec.bits_per_value / 8) + self._carrier.outstanding(peer)

    def _codes_of(self, message: Part | Mean) -> Encoded:
        if isinstance(message, Mean):
            return self._mean.slice(message.start, message.stop)
        assert self._contribution is not None
        return self._contribution.codes.slice(message.start, message.stop)

    # --- receiving -----------------------------------------------------------------------------------------------

    def on_go(self, peer: str, go: Go) -> None:
        """Raises BadMessage."""
        self.core.on_go(peer, go)
        self._wake[peer].set()

    def adopt(self, peer: str, early: EarlyPart) -> None:
        """A part that came, or began to come, before our plan did. Raises BadMessage."""
        if self.core.expect(peer, early.message) is not None:
            self._arriving[peer, early.message.KIND, early.message.start] = early.incoming
            if early.incoming.whole:
                self.take(peer, early.message)

    def open(self, peer: str, message: Part | Mean, size: int) -> Sequence[memoryview] | None:
        """Where the `size` payload bytes of this piece go; None: nowhere, it came already. Raises BadMessage."""
        piece = self.core.expect(peer, message)
        if piece is None:
            return None
        space = self._mean.slice(*self._bounds(piece)) if isinstance(message, Mean) else self._space_for(piece)
        incoming = Incoming(message, space, size, self._recycler)
        self._arriving[peer, message.KIND, message.start] = incoming
        return incoming.buffers()

    def _space_for(self, piece: int) -> Encoded:
        count = self.core.grid.size(piece)
        fits = self._free and self._free[-1].count == count
        return self._free.pop() if fits else self._recycler.allocate(self._codec, count)

    def take(self, peer: str, message: Part | Mean) -> None:
        """The payload of an opened piece is complete. Raises BadMessage."""
        incoming = self._arriving.pop((peer, message.KIND, message.start), None)
        if incoming is None:
            return
        space = incoming.finish()
        piece = self.core.arrived(peer, message)
        assert piece is not None
        if isinstance(message, Part):
            self._parts[peer, piece] = space
            self._ready.set()
        else:
            self._digest_finished()

    def _release(self, piece: int) -> None:
        """The parts of a reduced piece make room for later ones, while those of full size are wanted."""
        keep = self.core.grid.size(piece) == self.core.grid.piece
        for rank in self.core.routes.of(piece).contributors:
            space = self._parts.pop((self.core.members[rank], piece), None)
            if space is not None and keep:
                self._free.append(space)

    # --- links and the end ---------------------------------------------------------------------------------------

    def on_link_up(self, peer: str) -> None:
        """Whether or not its end was noticed, an older link is gone."""
        self.on_link_down(peer)
        self._send_gos()

    def on_link_down(self, peer: str) -> None:
        self._links_lost[peer] = self._links_lost.get(peer, 0) + 1
        for key in [key for key in self._arriving if key[0] == peer]:
            del self._arriving[key]
        self.core.on_link_down(peer)

    def remains(self) -> Remains:
        """What a further attempt can use. Take it before `stop`."""
        return Remains(self.core, self._mean, dict(self._parts))

    def stop(self) -> None:
        """Take no further part, and let go of all memory. Frames that are half sent are finished."""
        if self.stopped:
            return
        self.stopped = True
        for task in self._kernels:
            task.cancel()
        self._wake_senders()
        self.done.cancel()
        self._mean = Encoded.allocate(self._mean.codec, 0)
        self._contribution = None
        self._arriving.clear()
        self._parts.clear()
        self._free.clear()

    async def abort(self) -> None:
        """Stop, and do not wait for frames that are half sent: the links are closing."""
        self.stop()
        tasks = [*self._kernels, *self._senders]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def busy(self) -> bool:
        """Whether a stopped attempt still has frames or kernels under way."""
        return bool(self._kernels or self._senders)
