"""Bytes on the wire, counted by the kernel at each socket: frames, records and handshakes.

Linux keeps `tcpi_bytes_sent`, `tcpi_bytes_retrans` and `tcpi_bytes_received` in struct tcp_info
(include/uapi/linux/tcp.h; Linux 4.19 and later). What TCP had to repeat is counted apart: it says how the network is,
not what the program sends, and a busy machine repeats even on loopback. Where the kernel does not count, `exact` is
False and the figures are those of the frames before encryption.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from typing import Literal, NamedTuple

from p2p.channel.widening import NO_FLOW, Flow

LaneKind = Literal["control", "bulk"]

_U64, _U32 = struct.Struct("=Q"), struct.Struct("=I")
_RECEIVED_AT, _SENT_AT, _REPEATED_AT, _TCP_INFO_BYTES = 128, 200, 208, 216
_WINDOW_AT = (84, 80, 148)
"""tcpi_advmss, tcpi_snd_cwnd, tcpi_min_rtt."""
RESTING_PACKETS = 4
"""BBR's least window. A young connection begins with ten."""
_RATE_AT, _FLOW_AT, _OUTSTANDING_AT, _NOT_MEASURED = 160, (84, 192, 148, 68, 144), (84, 24, 144), (1 << 32) - 1
"""Of flows: tcpi_advmss, tcpi_delivered, tcpi_min_rtt, tcpi_rtt, tcpi_notsent_bytes. Outstanding: tcpi_advmss,
tcpi_unacked, tcpi_notsent_bytes."""


class WireBytes(NamedTuple):
    """Each byte once, however often TCP repeated it."""

    sent: int
    received: int

    def plus(self, other: WireBytes) -> WireBytes:
        return WireBytes(self.sent + other.sent, self.received + other.received)


class Load(NamedTuple):
    """What the bulk lanes that are open have carried so far, in bytes."""

    delivered: int
    """As many as the packets can hold that arrived at the other ends (tcpi_delivered times tcpi_advmss): bytes that
    were acknowledged leap whenever a gap is filled."""
    received: int
    connections: int


class Gauge:
    """Counts one connection. Holds a duplicate of its socket, so that the last figures can be read at its end."""

    def __init__(self, descriptor: int, lane: LaneKind = "control") -> None:
        self.lane: LaneKind = lane
        self.frames_sent = self.frames_received = 0
        self._last: WireBytes | None = None
        self.socket: socket.socket | None = socket.socket(fileno=os.dup(descriptor))
        """The duplicate; None after the end."""

    def read(self) -> WireBytes:
        """The figures now; those of the end once closed."""
        if self.socket is not None:
            counts = tcp_counts(self.socket)
            if counts is not None:
                sent, repeated, received = counts
                self._last = WireBytes(sent - repeated, received)
        return self._last or WireBytes(self.frames_sent, self.frames_received)

    def load(self) -> Load:
        """Of this connection; zeros where the kernel does not say."""
        flow = self.flow()
        return Load(flow.delivered, flow.received, 1)

    def flow(self) -> Flow:
        """Of this connection; zeros where the kernel does not say."""
        info = _tcp_info(self.socket) if self.socket is not None else b""
        if not info:
            return NO_FLOW
        segment, packets, shortest, newest, unsent = (_U32.unpack_from(info, at)[0] for at in _FLOW_AT)
        received = _U64.unpack_from(info, _RECEIVED_AT)[0]
        if shortest == _NOT_MEASURED:
            return Flow(segment * packets, received, 0.0, 1, unsent=unsent)
        return Flow(segment * packets, received, shortest / 1e6, 1, max(0, newest - shortest) / 1e6, unsent)

    def outstanding(self) -> int:
        """Bytes that the program gave to the kernel and that the other side has not said to have."""
        info = _tcp_info(self.socket) if self.socket is not None else b""
        if not info:
            return 0
        segment, packets, unsent = (_U32.unpack_from(info, at)[0] for at in _OUTSTANDING_AT)
        return int(segment * packets + unsent)

    def window(self) -> tuple[int, float]:
        """Bytes that it carries in a round trip at present, and its shortest round trip in seconds; zeros where the
        kernel does not say. Half of the congestion window: BBR lets twice as much be under way as the way holds."""
        info = _tcp_info(self.socket) if self.socket is not None else b""
        if not info:
            return 0, 0.0
        segment, packets, round_trip = (_U32.unpack_from(info, at)[0] for at in _WINDOW_AT)
        return segment * packets // 2, 0.0 if round_trip == _NOT_MEASURED else round_trip / 1e6

    def rests(self) -> bool:
        """Whether it may have next to nothing under way: while BBR looks how short the way is. With the first bytes
        after a pause it goes on with the window of before."""
        info = _tcp_info(self.socket) if self.socket is not None else b""
        return bool(info) and _U32.unpack_from(info, _WINDOW_AT[1])[0] <= RESTING_PACKETS

    def rate(self) -> int:
        """Bytes a second that it carried lately when it had enough to send (tcpi_delivery_rate)."""
        info = _tcp_info(self.socket) if self.socket is not None else b""
        return int(_U64.unpack_from(info, _RATE_AT)[0]) if info else 0

    def close(self) -> None:
        self.read()
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def tcp_counts(connection: socket.socket) -> tuple[int, int, int] | None:
    """Bytes sent (with repetitions), repeated and received on a TCP socket; None where the kernel does not say."""
    info = _tcp_info(connection)
    if not info:
        return None
    sent, repeated, received = (_U64.unpack_from(info, at)[0] for at in (_SENT_AT, _REPEATED_AT, _RECEIVED_AT))
    return sent, repeated, received


def _tcp_info(connection: socket.socket) -> bytes:
    """struct tcp_info; empty where the kernel does not say."""
    if sys.platform != "linux":
        return b""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return b""
    return info if len(info) == _TCP_INFO_BYTES else b""


class Meter:
    """Sums over all connections of a node, open and closed."""

    def __init__(self) -> None:
        self.exact = True
        self.idle = asyncio.Event()
        """Set while no connection is open."""
        self.idle.set()
        self._open: set[Gauge] = set()
        self._closed: dict[LaneKind, WireBytes] = {"control": WireBytes(0, 0), "bulk": WireBytes(0, 0)}

    def attach(self, connection: socket.socket, lane: LaneKind = "control") -> Gauge:
        self.exact = self.exact and tcp_counts(connection) is not None
        gauge = Gauge(connection.fileno(), lane)
        self._open.add(gauge)
        self.idle.clear()
        return gauge

    def retire(self, gauge: Gauge) -> None:
        if gauge in self._open:
            self._open.remove(gauge)
            gauge.close()
            self._closed[gauge.lane] = self._closed[gauge.lane].plus(gauge.read())
        if not self._open:
            self.idle.set()

    def total(self, lane: LaneKind | Literal["all"] = "all") -> WireBytes:
        """Sums since the start; monotonic while connections keep their lane."""
        figures = [count for kind, count in self._closed.items() if lane in ("all", kind)]
        figures += [gauge.read() for gauge in self._open if lane in ("all", gauge.lane)]
        return WireBytes(sum(count.sent for count in figures), sum(count.received for count in figures))

    def bulk_load(self) -> Load:
        """Of the bulk lanes."""
        loads = [gauge.load() for gauge in self._open if gauge.lane == "bulk"]
        return Load(*map(sum, zip(*loads, strict=True))) if loads else Load(0, 0, 0)
