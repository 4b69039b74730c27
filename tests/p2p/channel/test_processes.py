"""Peers in processes of their own: killed, restarted, frozen."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

import p2p.channel.link
from p2p.channel.connection import HIGH_WATER_BYTES
from p2p.contact import Contact
from tests.p2p.channel.nodes import RUN, NodeFactory, bulk, small

ROOT = Path(__file__).parents[3]


class Child:
    """A child_node.py process."""

    def __init__(self, process: asyncio.subprocess.Process, peer: str, port: int) -> None:
        self.process, self.peer, self.port = process, peer, port
        self.contact = Contact(
            peer=peer, p2pd="", addresses=(("127.0.0.1", port),), fingerprint=RUN.fingerprint, sequence=1
        )


Start = Callable[[int], Awaitable[Child]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a child on a port; always with the same key."""
    children: list[asyncio.subprocess.Process] = []

    async def run(port: int = 0) -> Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.p2p.channel.child_node",
            str(tmp_path / "node.key"),
            str(port),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        children.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            peer, bound = (await process.stdout.readline()).decode().split()
        return Child(process, peer, int(bound))

    yield run  # type: ignore[misc]  # the port has a default
    for process in children:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_peer_is_known_within_a_moment(new_node: NodeFactory, start: Start) -> None:
    node = await new_node()
    child = await start(0)
    node.mesh.dial(child.contact)
    await node.until(lambda: child.peer in node.mesh.peers())
    await node.mesh.send_bulk(child.peer, bulk(1), [memoryview(b"x")])
    started = time.monotonic()
    child.process.send_signal(signal.SIGKILL)
    await node.until(lambda: node.said("unreachable"))
    assert time.monotonic() - started < 2.0
    assert [event for event, _, _ in node.diary] == ["up", "down", "unreachable"]
    assert node.said("unreachable")[0][1] in ("Connection refused", "Connection reset by peer")


async def test_a_peer_that_comes_back_is_found_again(new_node: NodeFactory, start: Start) -> None:
    node = await new_node()
    child = await start(0)
    node.mesh.dial(child.contact)
    await node.until(lambda: child.peer in node.mesh.peers())
    child.process.kill()
    await node.until(lambda: node.said("down"))
    again = await start(child.port)
    assert again.peer == child.peer
    await node.until(lambda: len(node.said("up")) == 2)
    await node.mesh.send_bulk(again.peer, bulk(1), [memoryview(b"x")])
    assert node.hellos[0].instance != node.hellos[1].instance


async def test_a_frozen_peer_holds_the_sender_back_and_not_its_memory(new_node: NodeFactory, start: Start) -> None:
    node = await new_node()
    child = await start(0)
    node.mesh.dial(child.contact)
    await node.until(lambda: child.peer in node.mesh.peers())
    await node.mesh.send_bulk(child.peer, bulk(0), [])
    os.kill(child.process.pid, signal.SIGSTOP)
    data = memoryview(bytes(1 << 20))
    sent: list[int] = []

    async def send_all() -> None:
        for number in range(64):
            await node.mesh.send_bulk(child.peer, bulk(number), [data])
            sent.append(number)

    task = asyncio.create_task(send_all())
    lane = node.mesh._links[child.peer]._bulk[1]
    async with asyncio.timeout(20):
        while not lane._paused:  # noqa: ASYNC110 - nothing is told when a link fills up
            await asyncio.sleep(0.01)
    assert not task.done()
    assert len(sent) < 60
    assert lane.pending_bytes <= (1 << 20) + 2 * HIGH_WATER_BYTES
    os.kill(child.process.pid, signal.SIGCONT)
    await task
    assert not node.said("down")


async def test_control_messages_to_a_frozen_peer_are_bounded(
    new_node: NodeFactory, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(p2p.channel.link, "MAX_CONTROL_QUEUE_BYTES", 64 << 10)
    node = await new_node()
    child = await start(0)
    node.mesh.dial(child.contact)
    await node.until(lambda: child.peer in node.mesh.peers())
    os.kill(child.process.pid, signal.SIGSTOP)
    count = 0
    while node.mesh.send(child.peer, small(count)):
        count += 1
        assert count < 2_000_000
        if count % 1000 == 0:
            await asyncio.sleep(0)
    assert node.said("down") == [(child.peer, "it does not take our messages")]
    os.kill(child.process.pid, signal.SIGCONT)
