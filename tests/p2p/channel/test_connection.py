"""What a connection knows of its lane; what it carries is in test_mesh.py and test_link.py."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

import p2p.channel.connection
from p2p.channel.connection import Connection
from p2p.channel.meter import Gauge, Meter
from p2p.channel.sealed_transport import SealedTransport
from p2p.channel.sealing import Opener, Sealer

KEYS = bytes(32), bytes([1]) * 32


class Sink:
    """Is told nothing of interest."""

    def connected(self, connection: Connection) -> None: ...
    def frame_begins(self, message: bytes, payload_bytes: int) -> None: ...
    def frame_ends(self) -> None: ...
    def broken(self, reason: str) -> None: ...
    def lost(self, reason: str) -> None: ...


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    ours.setblocking(False)
    with ours, theirs:
        yield ours


def bulk_lane(tcp: socket.socket) -> Connection:
    connection = Connection(Sink(), Meter(), "bulk")
    SealedTransport(tcp, connection, Sealer(KEYS[0]), Opener(KEYS[1]))
    return connection


async def test_an_idle_lane_that_rests_is_taken_for_what_it_was(
    tcp: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing would go by it, and it rested for ever."""
    connection = bulk_lane(tcp)
    for window, outstanding, expected in ((900, 0, 900), (4, 0, 900), (4, 1, 4), (500, 1, 500), (500, 0, 900)):
        monkeypatch.setattr(Gauge, "outstanding", lambda _gauge, outstanding=outstanding: outstanding)
        monkeypatch.setattr(Gauge, "window", lambda _gauge, window=window: (window, 0.1))
        assert connection.outlook().window == expected
    connection.abort("over")
    await connection.wait_closed()


@pytest.mark.parametrize("rests", [True, False])
async def test_a_lane_that_rests_does_not_begin_anew(
    tcp: socket.socket, monkeypatch: pytest.MonkeyPatch, rests: bool
) -> None:
    sought: list[socket.socket] = []
    monkeypatch.setattr(p2p.channel.connection, "look_for_room", sought.append)
    monkeypatch.setattr(Gauge, "rests", lambda _gauge: rests)
    connection = bulk_lane(tcp)
    connection.hasten(1 << 40)
    assert len(sought) == (0 if rests else 1)
    connection.abort("over")
    await connection.wait_closed()
