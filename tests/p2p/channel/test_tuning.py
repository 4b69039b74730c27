"""What our sockets ask of the kernel."""

import socket
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

import p2p.channel.tuning
from p2p.channel.tuning import (
    NO_LIMIT,
    SO_MAX_PACING_RATE,
    UNSENT_BYTES,
    USABLE,
    USUAL_BUFFER_BYTES,
    even_rate,
    look_for_room,
    open_wide,
    pace,
    send_buffer,
    tune,
    under_way,
)

ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="no Linux")
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


@needs_linux
def test_a_connection_that_cannot_use_bbr_keeps_what_it_has() -> None:
    with socket.socket() as tcp:
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        look_for_room(tcp)
        assert congestion_control(tcp) == b"reno"
    look_for_room(tcp)  # closed: nothing to be done


@needs_linux
def test_the_kernel_is_given_little_ahead_of_what_it_may_send() -> None:
    with socket.socket() as tcp:
        tune(tcp)
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES


@needs_linux
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


@pytest.fixture
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    with ours, theirs:
        yield ours, theirs


@needs_linux
def test_a_connection_for_tensors_has_a_wide_window_and_still_wakes_for_a_byte(
    connected: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = connected
    before = ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    open_wide(ours)
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > before
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
    theirs.sendall(b"x")
    assert ours.recv(2) == b"x"


@pytest.mark.parametrize("text", ["4096 16384 7000000", "", "4096 many"])
def test_the_size_that_a_send_buffer_grows_to_is_the_kernels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    (tmp_path / "tcp_wmem").write_text(text)
    monkeypatch.setattr(p2p.channel.tuning, "SEND_BUFFERS", tmp_path / "tcp_wmem")
    send_buffer.cache_clear()
    size = 7_000_000 if text.endswith("7000000") else USUAL_BUFFER_BYTES
    assert send_buffer() == size
    assert under_way() == int(USABLE * size)
    send_buffer.cache_clear()


def test_the_pace_is_a_buffer_a_round_trip_on_a_long_way_and_none_on_a_short_one() -> None:
    assert even_rate(0.1) == under_way() * 10
    assert even_rate(0.0001) == inf


@needs_linux
@pytest.mark.parametrize(("rate", "limit"), [(12345.6, 12345), (0.5, 1), (inf, NO_LIMIT)])
def test_a_connection_keeps_its_pace(rate: float, limit: int) -> None:
    with socket.socket() as tcp:
        pace(tcp, rate)
        assert int.from_bytes(tcp.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 8), sys.byteorder) == limit
