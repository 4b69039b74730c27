"""Ports of simulated nodes."""

from __future__ import annotations

import socket

import pytest

from swarm.simulate import ports
from swarm.simulate.ports import FIRST, LAST, Ports


def test_ports_are_free_differ_and_are_none_that_a_system_gives_by_itself() -> None:
    found = Ports()
    taken = [found.take() for _ in range(50)]
    assert len(set(taken)) == len(taken)
    assert all(FIRST <= port < LAST for port in taken)
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        assert not FIRST <= given.getsockname()[1] < LAST


def test_a_port_in_use_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    used, free = Ports().take(), Ports().take()
    with socket.create_server(("127.0.0.1", used)):
        monkeypatch.setattr(ports.random, "sample", lambda *_: [free, used])
        found = Ports()
        assert found.take() == free
        with pytest.raises(OSError, match="no free port"):
            found.take()
