"""What people and strangers get wrong, on real nodes: one clear line or a refused peer; no traceback and no hang."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from swarm.config import RunConfig
from swarm.events import EventReader, Notice, Refused, Started
from tests.e2e.processes import HOST, QUICK, NodeProcess, free_port, processes
from tests.swarm.data.prepared import TEXTS, prepared

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
ENDS_SECONDS = 60.0


def ends_with_one_line(directory: Path, run: RunConfig = QUICK, **settings: Any) -> str:
    """Start a node that cannot work; its exit status is 1 and it says one line, which is returned."""
    node = NodeProcess(directory, run, **settings)
    try:
        assert node.child.process.wait(ENDS_SECONDS) == 1, node.said()
    finally:
        node.child.kill_group()
    lines = node.child.lines()
    assert len(lines) == 1, lines
    return lines[0]


def test_the_data_port_is_in_use(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        line = ends_with_one_line(tmp_path, port=port)
    assert f"port {port}" in line
    assert "in use" in line


def test_the_dht_port_is_in_use(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        line = ends_with_one_line(tmp_path, dht_port=port)
    assert str(port) in line
    assert "in use" in line


def test_no_bootstrap_peer_answers(tmp_path: Path) -> None:
    """It may be on its way, so the node tries for a while, and says so; one line ends it."""
    address = f"/ip4/{HOST}/tcp/{free_port()}/p2p/12D3KooWLo7JAHMezSYkSrMaL6ed3Yisi9jdS8MetXN6zsssAmbU"
    began = time.monotonic()
    assert address in ends_with_one_line(tmp_path, bootstrap_peers=(address,), quiet=True)
    assert time.monotonic() - began < ENDS_SECONDS
    notices = [event for _, event in EventReader(tmp_path / "events.jsonl").new() if isinstance(event, Notice)]
    assert f"no bootstrap peer answers, trying again in 1 s: {address} (connection refused)" in notices[0].message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_waits_for_its_bootstrap_peer_can_be_stopped(tmp_path: Path, number: int) -> None:
    address = f"/ip4/{HOST}/tcp/{free_port()}/p2p/12D3KooWLo7JAHMezSYkSrMaL6ed3Yisi9jdS8MetXN6zsssAmbU"
    with processes(tmp_path) as group:
        node = group.start(QUICK, bootstrap_peers=(address,))
        node.wait(Notice)
        node.child.process.send_signal(number)
        assert node.child.process.wait(ENDS_SECONDS) in (-number, 128 + number)
        assert not [line for line in node.child.lines() if "Traceback" in line]


def test_others_can_read_the_key(tmp_path: Path) -> None:
    key = tmp_path / "identity.key"
    key.write_bytes(b"anything")
    key.chmod(0o644)
    assert f"chmod 600 {key}" in ends_with_one_line(tmp_path)


def test_a_node_of_another_run_is_told_what_differs(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        first = group.start(QUICK, found=True)
        address = first.wait(Started).bootstrap[:1]
        other = group.start(QUICK.model_copy(update={"seed": 5}), found=False, bootstrap_peers=address)
        refusal = other.wait(Refused)
        assert "seed is 5 here, 0 there" in refusal.reason
        first.wait_round(first.wait_round(1).round + 1)


def test_data_that_is_not_there(tmp_path: Path) -> None:
    run = QUICK.model_copy(update={"data": "mine"})
    assert "set data_dir in [node]" in ends_with_one_line(tmp_path / "a", run)
    assert f"no manifest.json in {tmp_path}/mine" in ends_with_one_line(tmp_path / "b", run, data_dir=str(tmp_path))


def test_nodes_train_on_prepared_data_and_one_with_other_data_is_told_which(tmp_path: Path) -> None:
    run = QUICK.model_copy(update={"data": "embedded:1, mine:3", "founders": 2})
    prepared(tmp_path / "data" / "mine")
    prepared(tmp_path / "other" / "mine", TEXTS[1:])
    with processes(tmp_path) as group:
        first = group.start(run, found=True, data_dir=str(tmp_path / "data"))
        address = first.wait(Started).bootstrap[:1]
        group.start(run, found=False, bootstrap_peers=address, data_dir=str(tmp_path / "data"))
        stranger = group.start(run, found=False, bootstrap_peers=address, data_dir=str(tmp_path / "other"))
        assert "data.digest.mine is '" in stranger.wait(Refused).reason
        round = first.wait_round(2)
        assert round.tokens == run.inner_steps * run.batch_size * run.sequence_length
        group.same_digests()


def test_garbage_on_the_port_does_not_disturb_a_node(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        nodes = group.found(2)
        port = nodes[0].wait(Started).port
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(4096), b"\x00" * 10_000):
            with socket.create_connection((HOST, port)) as stranger:
                stranger.sendall(garbage)
                stranger.settimeout(30)
                while stranger_gets(stranger):
                    pass
        after = nodes[0].wait_round(1).round + 2
        for node in nodes:
            node.wait_round(after)
        group.same_digests()
        assert not any("Traceback" in line for node in nodes for line in node.child.lines())


def stranger_gets(stranger: socket.socket) -> bytes:
    """What the node answers; nothing when it closes the connection."""
    try:
        return stranger.recv(4096)
    except ConnectionResetError:
        return b""
