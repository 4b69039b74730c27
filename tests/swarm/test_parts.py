"""What a node is made of fits together, and comes apart again."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import pytest

from p2p.discovery.discovery import Discovery
from p2p.identity import Identity
from swarm.config import Config, NodeConfig
from swarm.events import EventLog, EventReader, Started
from swarm.parts import donor_limits, open_parts
from tests.e2e.processes import HOST, QUICK
from tests.swarm.test_priority import niceness

SECONDS = 60.0


async def test_parts_open_announce_themselves_and_close(tmp_path: Path) -> None:
    node = NodeConfig(host=HOST, port=0, dht_port=0, state_dir=tmp_path, threads=1)
    config = Config(run=QUICK, node=node)
    identity = Identity.load_or_create(node.key_path)
    discovery = Discovery.start((), HOST, 0, tmp_path)
    log = EventLog(node.events_path, quiet=True)
    try:
        async with asyncio.timeout(SECONDS), open_parts(config, identity, discovery, log) as parts:
            assert parts.state.count == parts.trainer.layout.count
            assert parts.state.round == -1
            if sys.platform == "linux":
                for computes in (parts.pool, parts.trainer_thread):
                    assert computes.submit(niceness).result(SECONDS) > niceness()
            assert parts.member.me == identity.peer_id
            [started] = [event for _, event in EventReader(node.events_path).new() if isinstance(event, Started)]
            while not (contacts := await discovery.find(QUICK.name)):
                pass
            assert contacts[0].contact.addresses == ((HOST, started.port),)
            assert contacts[0].contact.peer == identity.peer_id
    finally:
        discovery.close()
        log.close()
    names = {thread.name.partition("_")[0] for thread in threading.enumerate()}
    assert not names & {"kernel", "trainer", "state-file"}


def test_what_newcomers_are_given_is_bounded_as_configured() -> None:
    assert donor_limits(NodeConfig(donor_mbit=80)).bytes_per_second == 10e6
    assert donor_limits(NodeConfig()).bytes_per_second is None


async def test_a_taken_port_is_told_and_leaves_nothing_open(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda reader, writer: None, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    node = NodeConfig(host=HOST, port=port, dht_port=0, state_dir=tmp_path, threads=1)
    identity = Identity.load_or_create(node.key_path)
    discovery = Discovery.start((), HOST, 0, tmp_path)
    log = EventLog(node.events_path, quiet=True)
    try:
        with pytest.raises(Exception, match=f"port {port}.*in use"):
            async with open_parts(Config(run=QUICK, node=node), identity, discovery, log):
                pass
    finally:
        discovery.close()
        log.close()
        server.close()
        await server.wait_closed()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("kernel", "trainer"))]
