"""What our connections ask of the kernel.

`tune` is for all of them, `open_wide` and `pace` for those that carry tensors. On a long way a connection has much
under way, and Linux' defaults stop it short: the receiver opens its window so slowly that BBR takes that for a full
link; and a sender that has used up its buffer sends in bursts of a third of it, since it is woken no earlier. So the
window is open from the start, and the rate such that the buffer does not run out: where that is too little, more
connections carry more (p2p/channel/widening.py). The buffer is as large as the kernel allows, but no larger than
LANE_RATE takes. While nobody knows what the link carries, only EVEN of it is used: more lets BBR's start-up fill the
queues of the way and lose what does not fit, and what it finds differs more between connections.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from functools import cache
from math import inf
from pathlib import Path

UNSENT_BYTES = 512 << 10
"""What the kernel is given ahead of what it may send. It would take some megabytes, and who has given those is done
with one peer long before another: connections of one node then end far from each other."""
DEAD_AFTER_SECONDS = 20
PROBES = 5
"""A quiet connection is probed so many times before it counts as dead: the full queue of a slow link drops many packets
at once, those of several connections."""
BBR = b"bbr"
WINDOW_BYTES = 8 << 20
"""What a peer may send of tensors before it hears that some of it was read, from the start. The kernel gives no more
than half of net.ipv4.tcp_rmem's largest."""
SEND_BUFFERS = Path("/proc/sys/net/ipv4/tcp_wmem")
"""Its last number is what a buffer grows to by itself."""
MOST_ASKED = Path("/proc/sys/net/core/wmem_max")
"""What may be asked for; the kernel gives twice as much."""
USUAL_BUFFER_BYTES = 4 << 20
"""The largest of tcp_wmem, unless it was changed."""
LANE_RATE = 400e6 / 8
"""Bytes a second that one connection should carry on any way, if there may be a buffer for that."""
USABLE = 0.85
"""Part of a send buffer that holds data, with some room to spare; the rest is the kernel's book-keeping."""
EVEN = 0.62
"""Part of a send buffer that may be under way while nobody knows what the link carries."""
LONG_WAY_SECONDS = 0.01
"""Shorter round trips need no pace."""
SO_MAX_PACING_RATE = 47
"""Bytes a second, 8 bytes (asm-generic/socket.h); Python's socket module does not name it."""
NO_LIMIT = (1 << 64) - 1


def tune(tcp: socket.socket) -> None:
    """No delay; a peer whose machine is gone is noticed.

    BBR (Cardwell et al., 2016) where the kernel lets us: others take each lost packet for congestion, and one in a
    hundred leaves them next to nothing of a long link.
    """
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD_AFTER_SECONDS // 2)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, DEAD_AFTER_SECONDS // 2 // PROBES)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER_SECONDS * 1000)
        with suppress(OSError):  # not built in, or not allowed: the default serves
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, BBR)


def open_wide(tcp: socket.socket) -> None:
    """Let it receive much from the start."""
    if sys.platform == "linux":
        # To be woken for so much there must be room for it; unlike SO_RCVBUF that leaves the rest to the kernel.
        for low_water in (WINDOW_BYTES, 1):
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_water)


def even_rate(round_trip: float, allotted: float) -> float:
    """Bytes a second at which a connection sends that was allotted so much; inf: nothing."""
    if round_trip < LONG_WAY_SECONDS:
        return allotted
    usable = EVEN if allotted == inf else USABLE
    return min(allotted, usable * buffer_size(round_trip) / round_trip)


def buffer_for(tcp: socket.socket, round_trip: float) -> None:
    """Let it have as much under way as `under_way` says."""
    if sys.platform == "linux" and (size := buffer_size(round_trip)) > grows_to():
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size // 2)


def pace(tcp: socket.socket, rate: float) -> None:
    """Send no more than so many bytes a second."""
    if sys.platform == "linux":
        limit = NO_LIMIT if rate == inf else max(1, int(rate))
        tcp.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, limit.to_bytes(8, sys.byteorder))


def look_for_room(tcp: socket.socket) -> None:
    """Let BBR begin anew, as on a young connection, which finds all the room there is in a few round trips.

    By itself it tries for a quarter more, once in eight round trips: when a connection of several that share a link has
    done, the others are slow to take its place. It begins anew when it is chosen after another.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError):  # the connection has just broken
        if tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == BBR:
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, BBR)


def under_way(round_trip: float) -> int:
    """Bytes that one of our connections can have under way without being held up by its buffer."""
    return int(USABLE * buffer_size(round_trip))


def buffer_size(round_trip: float) -> int:
    """Bytes of the send buffer of one of our connections."""
    wanted = max(USUAL_BUFFER_BYTES, int(LANE_RATE * round_trip / USABLE))
    return min(wanted, max(grows_to(), 2 * _number(MOST_ASKED, 0, 0)))


def grows_to() -> int:
    """What the kernel lets a send buffer grow to, in bytes."""
    return _number(SEND_BUFFERS, 2, USUAL_BUFFER_BYTES)


@cache
def _number(path: Path, place: int, otherwise: int) -> int:
    try:
        return int(path.read_text().split()[place])
    except (OSError, ValueError, IndexError):
        return otherwise
