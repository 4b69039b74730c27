"""What our sockets ask of the kernel."""

import socket
import sys
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import pytest

import p2p.channel.tuning
from p2p.channel.tuning import (
    EVEN,
    LANE_RATE,
    NO_LIMIT,
    SO_MAX_PACING_RATE,
    UNSENT_BYTES,
    USABLE,
    USUAL_BUFFER_BYTES,
    buffer_for,
    buffer_size,
    even_rate,
    grows_to,
    look_for_room,
    open_wide,
    pace,
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


@pytest.fixture
def kernel_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str, str], None]]:
    """A kernel with these settings: tcp_wmem and wmem_max."""
    for name in ("SEND_BUFFERS", "MOST_ASKED"):
        monkeypatch.setattr(p2p.channel.tuning, name, tmp_path / name)

    def write(*texts: str) -> None:
        p2p.channel.tuning._number.cache_clear()
        for name, text in zip(("SEND_BUFFERS", "MOST_ASKED"), texts, strict=True):
            (tmp_path / name).write_text(text)

    yield write
    p2p.channel.tuning._number.cache_clear()


@pytest.mark.parametrize("grows", ["4096 16384 7000000", "", "4096 many"])
def test_the_size_that_a_send_buffer_grows_to_is_the_kernels(
    kernel_with: Callable[[str, str], None], grows: str
) -> None:
    kernel_with(grows, "212992\n")
    assert grows_to() == (7_000_000 if grows.endswith("7000000") else USUAL_BUFFER_BYTES)


@pytest.mark.parametrize(
    ("grows", "asked", "round_trip", "size"),
    [
        (4 << 20, 212_992, 0.3, 4 << 20),
        (4 << 20, 4 << 20, 0.05, 4 << 20),
        (4 << 20, 4 << 20, 0.1, int(LANE_RATE * 0.1 / USABLE)),
        (4 << 20, 4 << 20, 0.3, 8 << 20),
        (64 << 20, 212_992, 0.05, 4 << 20),
        (64 << 20, 212_992, 0.3, int(LANE_RATE * 0.3 / USABLE)),
        (1 << 20, 212_992, 0.3, 1 << 20),
    ],
)
def test_a_buffer_is_as_large_as_the_way_needs_and_the_kernel_allows(
    kernel_with: Callable[[str, str], None], grows: int, asked: int, round_trip: float, size: int
) -> None:
    kernel_with(f"4096 16384 {grows}", str(asked))
    assert buffer_size(round_trip) == size
    assert under_way(round_trip) == int(USABLE * size)


@needs_linux
def test_a_buffer_is_asked_for_where_it_does_not_grow_to_its_size_by_itself(
    kernel_with: Callable[[str, str], None],
) -> None:
    with socket.socket() as tcp:
        before = tcp.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        kernel_with(f"4096 16384 {64 << 20}", "65536")
        buffer_for(tcp, 0.3)
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
        kernel_with("4096 16384 65536", "100000")
        buffer_for(tcp, 0.3)
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 200_000


def test_on_a_long_way_a_buffer_lasts_a_round_trip_and_longer_where_nobody_knows_the_link() -> None:
    assert even_rate(0.1, 1e12) == pytest.approx(under_way(0.1) / 0.1)
    assert even_rate(0.1, inf) == pytest.approx(EVEN / USABLE * even_rate(0.1, 1e12))
    assert even_rate(0.1, 5.0) == 5.0
    assert even_rate(0.0001, inf) == inf
    assert even_rate(0.0001, 5.0) == 5.0


@needs_linux
@pytest.mark.parametrize(("rate", "limit"), [(12345.6, 12345), (0.5, 1), (inf, NO_LIMIT)])
def test_a_connection_keeps_its_pace(rate: float, limit: int) -> None:
    with socket.socket() as tcp:
        pace(tcp, rate)
        assert int.from_bytes(tcp.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 8), sys.byteorder) == limit
