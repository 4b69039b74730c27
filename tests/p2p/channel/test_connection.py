"""How a connection's socket is set up. What goes over it is tested with links and the mesh."""

import socket
from pathlib import Path

import pytest

from p2p.channel.connection import UNSENT_BYTES, look_for_room, tune

ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
needs_bbr = pytest.mark.skipif(
    not ALLOWED.exists() or "bbr" not in ALLOWED.read_text().split(), reason="the kernel has no BBR"
)


def congestion_control(tcp: socket.socket) -> bytes:
    return tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


@needs_bbr
def test_a_connection_uses_bbr_where_the_kernel_allows_it() -> None:
    with socket.socket() as tcp:
        tune(tcp)
        assert congestion_control(tcp) == b"bbr"


@needs_bbr
def test_a_connection_that_looks_for_room_still_uses_bbr() -> None:
    with socket.socket() as tcp:
        tune(tcp)
        look_for_room(tcp)
        assert congestion_control(tcp) == b"bbr"


@pytest.mark.skipif(not ALLOWED.exists(), reason="no Linux")
def test_a_connection_that_cannot_use_bbr_keeps_what_it_has() -> None:
    with socket.socket() as tcp:
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        look_for_room(tcp)
        assert congestion_control(tcp) == b"reno"
    look_for_room(tcp)  # closed: nothing to be done


@pytest.mark.skipif(not ALLOWED.exists(), reason="no Linux")
def test_the_kernel_is_given_little_ahead_of_what_it_may_send() -> None:
    with socket.socket() as tcp:
        tune(tcp)
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES


@pytest.mark.skipif(not ALLOWED.exists(), reason="no Linux")
def test_a_quiet_connection_is_not_dead_before_five_probes_went_unanswered() -> None:
    with socket.socket() as tcp:
        tune(tcp)
        names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        idle, interval, probes, dead = (tcp.getsockopt(socket.IPPROTO_TCP, name) for name in names)
    assert probes == 5
    assert idle + probes * interval == dead / 1000


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
