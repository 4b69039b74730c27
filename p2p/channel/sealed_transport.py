"""A transport of sealed records (p2p/channel/sealing.py) over a plain socket: what asyncio's for TLS is to TLS."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from p2p.channel.sealing import OVERHEAD_BYTES, RECORD_BYTES, Opener, Sealer
from p2p.protocol.model import BadMessage

BURST_BYTES = 1 << 20
"""Sent or received at most before others on the loop have their turn: below a millisecond of work."""
WORTH_SLEEPING_FOR = 16 << 10
"""On an ordinary link data comes in by a few KiB: it is read when a record is whole, if as much as this lacks."""
RETRY_SECONDS = 0.005
"""The kernel says that there is room when a third of its buffer is free, and takes data before."""
LINGER_SECONDS = 1.0
"""The other side has so long to end its direction after we have ended ours."""


WIRE_BYTES = RECORD_BYTES + (4 << 10)
"""Memory that is used again: room for a record, and for the small ones before and behind it."""


class _Sealed(NamedTuple):
    """Records on their way to the kernel: `wire[start:stop]` is what it has not taken."""

    wire: memoryview
    start: int
    stop: int


class LaneProtocol(Protocol):
    """What the transport tells. `get_buffer` and so on are those of asyncio.BufferedProtocol."""

    def connection_made(self, transport: Any) -> None: ...
    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...
    def eof_received(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...

    def garbled(self, error: BadMessage) -> None:
        """A record that cannot be opened has come. The transport is to be aborted."""


class SealedTransport(asyncio.Transport):
    """Of a connected, non-blocking socket, which it closes in the end. `connection_made` is called at once."""

    def __init__(self, tcp: socket.socket, protocol: LaneProtocol, sealer: Sealer, opener: Opener) -> None:
        super().__init__()
        self._tcp = tcp
        self._protocol = protocol
        self._sealer, self._opener = sealer, opener
        self._loop = asyncio.get_running_loop()
        self._low_water = 1
        self._unsent: deque[_Sealed] = deque()
        self._unsent_bytes = 0
        self._spare: list[memoryview] = []
        self._burst = 0
        """Sent since the loop last said that the socket is writable."""
        self._high = BURST_BYTES
        self._waiting = self._paused = self._closing = self._ended = False
        self._linger: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        protocol.connection_made(self)
        if not self._ended:
            self._loop.add_reader(tcp, self._on_readable)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return self._tcp
        if name == "peername":
            with suppress(OSError):  # it has been cut off already
                return self._tcp.getpeername()
        return default

    # --- receiving

    def _on_readable(self) -> None:
        room = BURST_BYTES
        while room > 0 and not self._ended:
            buffer = memoryview(bytearray(RECORD_BYTES)) if self._closing else self._opener.buffer()
            try:
                count = self._tcp.recv_into(buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._end(error)
                return
            if count == 0:
                self._on_eof()
                return
            if not self._closing:
                self._take(count)
            if count < len(buffer):
                break
            room -= count
        self._sleep_till_worthwhile()

    def _take(self, count: int) -> None:
        opener, protocol = self._opener, self._protocol
        try:
            opener.received(count)
            while (size := opener.whole) is not None and not self._closing:
                if opener.padding:
                    opener.open(memoryview(bytearray(size)))
                    continue
                target = protocol.get_buffer(size)
                if len(target) >= size:
                    opener.open(target[:size])
                    protocol.buffer_updated(size)
                else:
                    plain = memoryview(bytearray(size))
                    opener.open(plain)
                    self._hand_over(plain)
        except BadMessage as error:
            protocol.garbled(error)

    def _hand_over(self, plain: memoryview) -> None:
        """A record that goes into several pieces of memory."""
        while plain and not self._closing:
            target = self._protocol.get_buffer(len(plain))
            count = min(len(target), len(plain))
            target[:count] = plain[:count]
            self._protocol.buffer_updated(count)
            plain = plain[count:]

    def _sleep_till_worthwhile(self) -> None:
        """Let the kernel wake us when the record that has begun is whole: the rest of it comes for sure."""
        if self._ended or sys.platform != "linux":
            return
        missing = 1 if self._closing else self._opener.missing
        low_water = missing if missing >= WORTH_SLEEPING_FOR else 1
        if low_water != self._low_water:
            self._low_water = low_water
            with suppress(OSError):  # it has been cut off: the next read says so
                self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_water)

    def _on_eof(self) -> None:
        if not self._closing:
            self._protocol.eof_received()
        self._end(None)

    # --- sending

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert low is None, "the protocol is resumed when all is sent"
        self._high = BURST_BYTES if high is None else high

    def get_write_buffer_size(self) -> int:
        return self._unsent_bytes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines([data])

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """Seal each piece (of bytes) into records of its own; the pieces may change afterwards."""
        if self._closing:
            return
        self._seal([piece[at : at + RECORD_BYTES] for piece in pieces for at in range(0, len(piece), RECORD_BYTES)])

    def pad(self, size: int) -> None:
        """Send about `size` bytes that the other side drops."""
        while size > 0 and not self._closing:
            self._seal([bytes(min(size, RECORD_BYTES))], padding=True)
            size -= RECORD_BYTES

    def _seal(self, records: Sequence[bytes | bytearray | memoryview], padding: bool = False) -> None:
        wire = self._wire(sum(map(len, records)) + OVERHEAD_BYTES * len(records))
        size = 0
        for record in records:
            size += self._sealer.seal(record, wire[size:], padding)
        self._unsent.append(_Sealed(wire, 0, size))
        self._unsent_bytes += size
        if not self._waiting:
            self._send()
        if self._unsent_bytes > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def _wire(self, size: int) -> memoryview:
        """Memory for sealed records."""
        if size > WIRE_BYTES:
            return memoryview(bytearray(size))
        return self._spare.pop() if self._spare else memoryview(bytearray(WIRE_BYTES))

    def _send(self) -> None:
        """As much as the kernel takes and a turn allows; for the rest, wait."""
        try:
            while self._unsent and self._burst < BURST_BYTES:
                wire, start, stop = self._unsent[0]
                count = self._tcp.send(wire[start:stop])
                self._burst += count
                self._unsent_bytes -= count
                if start + count < stop:
                    self._unsent[0] = _Sealed(wire, start + count, stop)
                    break
                self._unsent.popleft()
                if len(wire) == WIRE_BYTES:
                    self._spare.append(wire)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._end(error)
            return
        if bool(self._unsent) != self._waiting:
            self._waiting = not self._waiting
            if self._waiting:
                self._loop.add_writer(self._tcp, self._on_writable)
            else:
                self._loop.remove_writer(self._tcp)
        if self._waiting and self._retry is None:
            self._retry = self._loop.call_later(RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        if self._waiting:
            self._on_writable()

    def _on_writable(self) -> None:
        self._burst = 0
        self._send()
        if self._unsent or self._ended:
            return
        if self._closing:
            self._shut_down()
        elif self._paused:
            self._paused = False
            self._protocol.resume_writing()

    # --- ending

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Send what was written, and end our direction; the other side ends its own, or is cut off."""
        if self._closing:
            return
        self._closing = True
        if not self._unsent:
            self._shut_down()

    def abort(self) -> None:
        """Close now."""
        self._end(None)

    def _shut_down(self) -> None:
        try:
            self._tcp.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._end(error)
            return
        # closed with bytes unread it would reset the connection, and what we sent last might not be read either
        self._linger = self._loop.call_later(LINGER_SECONDS, self.abort)

    def _end(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._ended = self._closing = True
        if self._linger is not None:
            self._linger.cancel()
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._tcp)
        self._loop.remove_writer(self._tcp)
        self._unsent.clear()
        self._spare.clear()
        self._unsent_bytes = 0
        self._loop.call_soon(self._tell_end, error)

    def _tell_end(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._tcp.close()
