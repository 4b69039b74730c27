"""How a connection's socket is set up. What goes over it is tested with links and the mesh."""

import socket
import sys
from pathlib import Path

import pytest

from p2p.channel.connection import UNSENT_BYTES, tune

ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")


@pytest.mark.skipif(not ALLOWED.exists() or "bbr" not in ALLOWED.read_text().split(), reason="the kernel has no BBR")
def test_a_connection_uses_bbr_where_the_kernel_allows_it() -> None:
    with socket.socket() as tcp:
        tune(tcp)
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"bbr"


class WithoutBbr(socket.socket):
    """On a kernel that refuses it."""

    def setsockopt(self, level: int, option: int, value: object) -> None:  # type: ignore[override]
        if (level, option) == (socket.IPPROTO_TCP, socket.TCP_CONGESTION):
            raise FileNotFoundError
        super().setsockopt(level, option, value)  # type: ignore[arg-type]


def test_a_connection_does_without_bbr_where_it_is_not_allowed() -> None:
    with WithoutBbr() as tcp:
        tune(tcp)
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel has no such limit")
def test_what_cannot_be_sent_yet_waits_where_its_order_can_be_changed() -> None:
    with socket.socket() as tcp:
        tune(tcp)
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES
