"""`swarm bootstrap`: an address that stays, until it is told to end."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from swarm.simulate.process import Child, stop_all
from swarm.simulate.workspace import clean_environment
from tests.e2e.processes import HOST, free_port

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]


def bootstrap(directory: Path, port: int) -> Child:
    command = [sys.executable, "-m", "swarm", "bootstrap", "--host", HOST, "--port", str(port)]
    directory.mkdir(exist_ok=True)
    return Child([*command, "--state-dir", str(directory)], directory / "output.log", clean_environment())


def address_of(child: Child, known: int = 0) -> str:
    """The address it prints, after `known` earlier ones in the same file."""
    deadline = time.monotonic() + 60
    while len(lines := [line for line in child.lines() if line.startswith("/ip4/")]) <= known:
        assert child.status is None, child.last_line()
        assert time.monotonic() < deadline, child.last_line()
    return lines[-1]


def test_its_address_survives_a_restart_and_nothing_else_does(tmp_path: Path) -> None:
    port = free_port()
    addresses = []
    for life in range(2):
        child = bootstrap(tmp_path / "b", port)
        try:
            addresses.append(address_of(child, known=life))
            child.process.send_signal(signal.SIGTERM)
            assert child.process.wait(20) == 0
        finally:
            assert not stop_all([child])
    assert addresses[0] == addresses[1]
    assert f"/ip4/{HOST}/tcp/{port}/p2p/" in addresses[0]
    assert not list(tmp_path.rglob("*.sock"))
