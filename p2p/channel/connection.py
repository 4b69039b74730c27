"""One connection: frames in through a FrameParser, frames out to its transport (TLS, or sealed records) unjoined."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from math import inf, isclose
from typing import Protocol, cast

from p2p.channel.frames import FrameParser, FrameSink, frame_head
from p2p.channel.lane_choice import Lane
from p2p.channel.meter import Gauge, LaneKind, Meter
from p2p.channel.sealed_transport import SealedTransport
from p2p.channel.sealing import RECORD_BYTES
from p2p.channel.tuning import (
    LONG_WAY_SECONDS,
    buffer_for,
    even_rate,
    look_for_room,
    open_wide,
    pace,
    tune,
    under_way,
)
from p2p.channel.warm_up import WarmUp
from p2p.channel.widening import NO_FLOW, Flow
from p2p.protocol.model import BadMessage

WRITE_BYTES = RECORD_BYTES
"""Payload handed to the transport at once."""
HIGH_WATER_BYTES = 512 << 10
PAYS_AFTER = 10.0
"""Round trips that the rest would take at the present rate. A connection that begins anew needs some of them to find
its place, and one that has not found it when the reduce ends begins the next one with too much."""
PACE_AGAIN = 0.01
"""By less a pace is not changed."""


class ConnectionSink(FrameSink, Protocol):
    """Owner of a connection."""

    def connected(self, connection: Connection) -> None:
        """The transport is up."""

    def broken(self, reason: str) -> None:
        """The other side sent what it may not send; nothing more of it is read. The sink closes the connection."""

    def lost(self, reason: str) -> None:
        """Called once, last of all; also after `close` and `abort`."""


class Outgoing:
    """A frame on its way into the transport; `done` is set when its last byte has been encrypted."""

    def __init__(self, pieces: Iterator[list[bytes | memoryview]], size: int) -> None:
        self.pieces = pieces
        self.size = size
        self.started = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


def _pieces(head: bytes, buffers: Sequence[memoryview]) -> Iterator[list[bytes | memoryview]]:
    """`head` and `buffers` in order, in groups of about WRITE_BYTES; nothing is copied."""
    group: list[bytes | memoryview] = [head]
    room = WRITE_BYTES
    for buffer in buffers:
        start = 0
        while start < len(buffer):
            piece = buffer[start : start + room]
            group.append(piece)
            start += len(piece)
            room -= len(piece)
            if room == 0:
                yield group
                group, room = [], WRITE_BYTES
    if group:
        yield group


class Connection(asyncio.BufferedProtocol):
    """Protocol object of a transport that encrypts."""

    def __init__(self, sink: ConnectionSink, meter: Meter, lane: LaneKind = "control") -> None:
        self._sink = sink
        self._meter = meter
        self._lane = lane
        self._gauge: Gauge | None = None
        self._allotted = self._pace = inf
        """Bytes a second: what it may send, and what it was told to."""
        self._widest = 0
        """Bytes that it has carried in a round trip at most."""
        self._transport: asyncio.Transport | None = None
        self._queue: deque[Outgoing] = deque()
        self._queued_bytes = 0
        self._paused = False
        self._reason: str | None = None
        self._closed = asyncio.get_running_loop().create_future()
        self._warm_up = WarmUp()
        self.parser = FrameParser(sink)
        self.address: tuple[str, int] = ("?", 0)

    @property
    def closing(self) -> bool:
        return self._reason is not None

    @property
    def between_frames(self) -> bool:
        """Whether a frame can be written at once."""
        return not self._queue

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return self._queued_bytes + (self._transport.get_write_buffer_size() if self._transport else 0)

    @property
    def outstanding_bytes(self) -> int:
        """Bytes that are not known to have arrived, here and in the kernel."""
        return self.pending_bytes + (self._gauge.outstanding() if self._gauge is not None else 0)

    def outlook(self) -> Lane:
        """What the choice of a lane goes by."""
        if self._gauge is None:
            return Lane(self.pending_bytes, 0, 0.0, 0)
        window, round_trip = self._gauge.window()
        self._widest = max(self._widest, window)
        outstanding = self.outstanding_bytes
        if not outstanding:  # what it rested for is over with the first bytes
            window = self._widest
        return Lane(outstanding, window, round_trip, under_way(round_trip))

    @property
    def grown(self) -> bool:
        """Whether it carries no padding any more."""
        return self._warm_up.over

    def warm_up(self, now: float) -> None:
        """To be called a few times a second on a bulk lane beside others: it carries padding until it has grown."""
        transport, gauge = self._transport, self._gauge
        if self._warm_up.over or gauge is None or self.closing or not isinstance(transport, SealedTransport):
            return
        window, round_trip = gauge.window()
        if round_trip < LONG_WAY_SECONDS:
            self._warm_up.over = round_trip > 0
        else:
            transport.pad(self._warm_up.padding(now, window, round_trip, under_way(round_trip), self.pending_bytes))

    def flow(self) -> Flow:
        """What it has carried so far. To be asked for now and then while it carries tensors: its pace goes by it."""
        if self._gauge is None or self._gauge.socket is None:
            return NO_FLOW
        flow = self._gauge.flow()
        rate = even_rate(flow.round_trip, self._allotted)
        if not isclose(rate, self._pace, rel_tol=PACE_AGAIN):
            self._pace = rate
            pace(self._gauge.socket, rate)
            buffer_for(self._gauge.socket, flow.round_trip)
        return flow._replace(unsent=flow.unsent + self.pending_bytes)

    def allot(self, rate: float) -> None:
        """Send no more bytes a second."""
        if rate != self._allotted:
            self._allotted = rate
            self.flow()

    def hasten(self, left: int) -> None:
        """Look for more room on the way if that pays for `left` bytes; it costs nothing while no more may be sent, but
        for a connection that rests: it would begin with next to nothing."""
        if self._gauge is None or self._gauge.socket is None or self.closing or self._gauge.rests():
            return
        limited = self._allotted < inf
        if limited or left > PAYS_AFTER * self._gauge.rate() * self._gauge.flow().round_trip:
            look_for_room(self._gauge.socket)

    def hand_over(self, sink: ConnectionSink) -> None:
        """The handshake is over: frames go to `sink` from the next on."""
        self._sink = self.parser.sink = sink

    def peer_certificate(self) -> bytes:
        """DER of the other side's certificate; empty when it has none."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        return (tls.getpeercert(binary_form=True) or b"") if tls else b""

    def protocol_name(self) -> str | None:
        """ALPN protocol that both sides agreed on."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        return tls.selected_alpn_protocol() if tls else None

    # --- sending

    def send(self, message: bytes) -> bool:
        """Queue a frame without payload; never waits. False when the connection is closing."""
        if self._transport is None or self.closing:
            return False
        assert not self._queue, "small frames and frames with payload use different lanes"
        self._write([frame_head(message)])
        return True

    def enqueue(self, message: bytes, buffers: Sequence[memoryview]) -> Outgoing:
        """Queue a frame with payload; await its `done` (ConnectionResetError when the connection ends before)."""
        views = [view.cast("B") for view in buffers if view.nbytes]
        size = sum(map(len, views))
        outgoing = Outgoing(_pieces(frame_head(message, size), views), size)
        if self._transport is None or self.closing:
            outgoing.done.set_exception(ConnectionResetError("closed"))
            return outgoing
        self._queue.append(outgoing)
        self._queued_bytes += size
        self._pump()
        return outgoing

    def withdraw(self, outgoing: Outgoing) -> None:
        """Take back a frame unless its first byte has left; a frame once begun is sent to its end."""
        if not outgoing.started and outgoing in self._queue:
            self._queue.remove(outgoing)
            self._queued_bytes -= outgoing.size

    def _pump(self) -> None:
        """Give frames to the transport, piece by piece, for as long as it takes them."""
        while self._queue and not self._paused and not self.closing:
            outgoing = self._queue[0]
            outgoing.started = True
            group = next(outgoing.pieces, None)
            if group is not None:
                self._write(group)
                continue
            self._queue.popleft()
            self._queued_bytes -= outgoing.size
            if not outgoing.done.done():
                outgoing.done.set_result(None)

    def _write(self, group: Sequence[bytes | memoryview]) -> None:
        assert self._transport is not None, "connected"
        if self._gauge is not None:
            self._gauge.frames_sent += sum(map(len, group))
        self._transport.writelines(group)

    # --- ending

    def close(self, reason: str) -> None:
        """Send what the transport has, say goodbye, close; what still arrives is ignored."""
        if self._end(reason) and self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close now."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        await asyncio.shield(self._closed)

    def _end(self, reason: str) -> bool:
        if self.closing:
            return False
        self._reason = reason
        self.parser.stop()
        return True

    # --- called by the transport

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, base)  # uvloop's is one by its methods only
        self._transport = transport
        if self.closing:  # given up during the transport's handshake
            transport.abort()
            return
        tcp = transport.get_extra_info("socket")
        tune(tcp)
        self._gauge = self._meter.attach(tcp, self._lane)
        if self._lane == "bulk":
            open_wide(tcp)
            self.flow()
        peername = transport.get_extra_info("peername")
        if isinstance(peername, tuple):
            self.address = (str(peername[0]), int(peername[1]))
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._sink.connected(self)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self.parser.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._gauge is not None:
            self._gauge.frames_received += nbytes
        if self._transport is None:
            self._end("spoke before its turn")  # some loops deliver before they tell that TLS is up
        try:
            self.parser.received(nbytes)
        except BadMessage as error:
            self.parser.stop()
            self._sink.broken(f"bad message: {error}")

    def garbled(self, error: BadMessage) -> None:
        """What came cannot be opened."""
        self.parser.stop()
        self._sink.broken(str(error))

    def eof_received(self) -> None:
        self._end("closed by the peer")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc) or type(exc).__name__ if exc else "closed by the peer")
        if self._gauge is not None:
            self._meter.retire(self._gauge)
        for outgoing in self._queue:
            if not outgoing.done.done():
                outgoing.done.set_exception(ConnectionResetError(self._reason))
        self._queue.clear()
        if not self._closed.done():
            self._closed.set_result(None)
        self._sink.lost(self._reason or "")
