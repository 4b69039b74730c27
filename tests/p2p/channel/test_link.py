"""A link with a peer that keeps only half of the rules."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket

import pytest

import p2p.channel.link
from p2p.channel.frames import frame_head
from p2p.channel.handshake import DiallerHandshake
from p2p.channel.hello import MAX_HELLO_BYTES, Hello, decode_one_of
from p2p.channel.link import LinkLost
from p2p.identity import Identity
from p2p.protocol.messages import encode
from tests.p2p.channel.nodes import Node, NodeFactory, bulk, small
from tests.p2p.channel.test_handshake import terms
from tests.p2p.channel.test_listener import Visitor


async def control_lane_only(node: Node) -> Visitor:
    """A peer that never dials the bulk lane."""
    visitor = await Visitor.tls(node)
    identity = Identity.generate()
    while identity.peer_id < node.peer:  # so that the node decides, and our Hello is the last word
        identity = Identity.generate()
    handshake = DiallerHandshake(terms(identity), node.peer)
    for message in handshake.receive(encode(await visitor.hear())):
        visitor.say(message)
    length = int.from_bytes((await visitor.reader.readexactly(8))[:4], "little")
    hello = decode_one_of(await visitor.reader.readexactly(length), {Hello.KIND: Hello}, MAX_HELLO_BYTES)
    assert isinstance(hello, Hello)
    await node.until(lambda: node.mesh.peers() == {identity.peer_id})
    return visitor


async def test_bulk_waits_for_a_lane_and_not_for_ever(new_node: NodeFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p2p.channel.link, "LANE_SECONDS", 0.1)
    node = await new_node()
    visitor = await control_lane_only(node)
    [peer] = node.mesh.peers()
    with pytest.raises(LinkLost, match="no bulk lane within"):
        await node.mesh.send_bulk(peer, bulk(1), [memoryview(b"x")])
    assert await visitor.is_cut_off()
    await visitor.close()


async def test_bulk_that_waits_for_a_lane_fails_with_the_link(new_node: NodeFactory) -> None:
    node = await new_node()
    visitor = await control_lane_only(node)
    [peer] = node.mesh.peers()
    waiting = asyncio.create_task(node.mesh.send_bulk(peer, bulk(1), []))
    await asyncio.sleep(0)
    await visitor.close()
    with pytest.raises(LinkLost):
        await waiting
    assert not node.mesh.send(peer, small(1))


@pytest.mark.parametrize(
    "frame",
    [frame_head(b"\xc1"), frame_head(b""), frame_head(b"\x91\xa5hello"), b"\xff" * 8, frame_head(encode(small(1)), 5)],
)
async def test_garbage_on_an_open_link_ends_it(new_node: NodeFactory, frame: bytes) -> None:
    node = await new_node()
    visitor = await control_lane_only(node)
    visitor.writer.write(frame)
    await node.until(lambda: node.said("down"))
    assert node.said("down")[0][1].startswith("bad message: ")
    assert await visitor.is_cut_off()
    await visitor.close()
    assert not node.messages


async def test_a_peer_that_never_closes_its_end_is_cut_off(new_node: NodeFactory) -> None:
    node = await new_node()
    visitor = await control_lane_only(node)
    visitor.writer.transport.pause_reading()
    async with asyncio.timeout(10):
        await node.mesh.close()
    await visitor.close()


async def test_running_out_of_descriptors_passes(new_node: NodeFactory) -> None:
    node, peer = await new_node(), await new_node()
    client = socket.socket()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 2, hard))
    filling = []
    try:
        with contextlib.suppress(OSError):
            filling.extend(os.dup(0) for _ in range(10_000))
        client.connect(("127.0.0.1", node.port))  # the kernel takes it; the node cannot
        for _ in range(100):
            await asyncio.sleep(0)
    finally:
        for descriptor in filling:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    peer.mesh.dial(node.contact())
    await asyncio.gather(peer.linked(node), node.linked(peer))
    client.close()
