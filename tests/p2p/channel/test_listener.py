"""What the port does with visitors who are no peers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Callable

import pytest

import p2p.channel.listener
from p2p.channel.certificate import client_context, server_context
from p2p.channel.frames import HEADER, frame_head
from p2p.channel.handshake import DiallerHandshake
from p2p.channel.hello import MAX_HELLO_BYTES, MAX_LANES, Challenge, Proof, Refused, decode_one_of
from p2p.channel.lanes import MAGIC, LaneRefused, dial_lane
from p2p.channel.listener import CannotListen, PortInUse
from p2p.channel.sealing import OVERHEAD_BYTES, SALT_BYTES, Sealer
from p2p.errors import SwarmError
from p2p.identity import Identity
from p2p.protocol.message import Message
from p2p.protocol.messages import encode
from tests.p2p.channel.nodes import Node, NodeFactory, bulk
from tests.p2p.channel.test_handshake import terms

KINDS: dict[str, type[Message]] = {kind.KIND: kind for kind in (Challenge, Refused)}


class Visitor:
    """A raw connection to a node's port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def tcp(cls, node: Node) -> Visitor:
        return cls(*await asyncio.open_connection("127.0.0.1", node.port))

    @classmethod
    async def tls(cls, node: Node, context: ssl.SSLContext | None = None) -> Visitor:
        context = context or client_context()
        return cls(*await asyncio.open_connection("127.0.0.1", node.port, ssl=context, server_hostname=""))

    def say(self, message: Message) -> None:
        self.writer.write(frame_head(encode(message)))

    async def hear(self) -> Message:
        length, payload = HEADER.unpack(await self.reader.readexactly(HEADER.size))
        assert payload == 0
        return decode_one_of(await self.reader.readexactly(length), KINDS, MAX_HELLO_BYTES)

    async def is_cut_off(self) -> bool:
        """Whether the node ends the connection (else this times out)."""
        async with asyncio.timeout(10):
            try:
                while await self.reader.read(65536):
                    pass
            except (ConnectionError, ssl.SSLError):
                pass
        return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            await self.writer.wait_closed()


@pytest.fixture
async def visit() -> AsyncIterator[Callable[..., object]]:
    visitors: list[Visitor] = []

    async def tcp_or_tls(node: Node, tls: bool = True, context: ssl.SSLContext | None = None) -> Visitor:
        visitor = await (Visitor.tls(node, context) if tls else Visitor.tcp(node))
        visitors.append(visitor)
        return visitor

    yield tcp_or_tls
    for visitor in visitors:
        await visitor.close()


def is_an_address(who: str) -> bool:
    return who.startswith("127.0.0.1:")


async def test_a_port_in_use_is_a_clear_error(new_node: NodeFactory) -> None:
    a = await new_node()
    b = Node()
    with pytest.raises(PortInUse, match=f"port {a.port} on 127.0.0.1 is in use: choose another with --port"):
        await b.listen(a.port)
    await b.mesh.close()
    assert issubclass(PortInUse, SwarmError)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
async def test_an_address_that_is_not_ours_is_a_clear_error(host: str) -> None:
    node = Node()
    with pytest.raises(CannotListen, match=f"cannot listen on {host}:0: .*: choose another --host"):
        await node.mesh.listen(host, 0)
    await node.mesh.close()


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 1000, b"\x16\x03\x01\xff\xff" + b"x" * 70_000]
)
async def test_garbage_on_the_port_is_refused(new_node: NodeFactory, visit: Callable, garbage: bytes) -> None:
    node = await new_node()
    visitor = await visit(node, tls=False)
    visitor.writer.write(garbage)
    assert await visitor.is_cut_off()
    await node.until(lambda: node.said("refused"))
    [(who, reason)] = node.said("refused")
    assert is_an_address(who)
    assert reason.startswith("does not speak our protocol: ")
    assert "\n" not in reason


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("<II", 0xFFFFFFFF, 0),
        struct.pack("<II", 100, 1),
        struct.pack("<II", 513, 0) + bytes(513),
        frame_head(b"\xc1"),
        frame_head(b""),
        frame_head(encode(Challenge(nonce=bytes(32)))),
    ],
)
async def test_garbage_within_tls_is_refused(new_node: NodeFactory, visit: Callable, garbage: bytes) -> None:
    node = await new_node()
    visitor = await visit(node)
    visitor.writer.write(garbage)
    assert await visitor.is_cut_off()
    await node.until(lambda: node.said("refused"))
    [(who, reason)] = node.said("refused")
    assert is_an_address(who)
    assert reason.startswith("bad message: ")


async def test_tls_for_something_else_is_refused(new_node: NodeFactory, visit: Callable) -> None:
    node = await new_node()
    context = client_context()
    context.set_alpn_protocols(["http/1.1"])
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert await (await visit(node, context=context)).is_cut_off()
    await node.until(lambda: node.said("refused"))
    assert node.said("refused")[0][1].startswith("does not speak our protocol")


async def test_a_forged_peer_id_is_refused_and_reads_why(new_node: NodeFactory, visit: Callable) -> None:
    node, victim = await new_node(), Identity.generate()
    visitor = await visit(node)
    handshake = DiallerHandshake(terms(Identity.generate()), node.peer)
    proof, hello = handshake.receive(encode(await visitor.hear()))
    assert isinstance(proof, Proof)
    visitor.say(proof.model_copy(update={"peer": victim.peer_id}))
    visitor.say(hello)
    answer = await visitor.hear()
    assert answer == Refused(code="identity", reason=f"failed to prove that it is {victim.peer_id}")
    assert await visitor.is_cut_off()
    await node.until(lambda: node.said("refused"))
    assert is_an_address(node.said("refused")[0][0])
    assert not node.mesh.peers()


async def test_a_node_that_reaches_itself_drops_the_connection(new_node: NodeFactory, visit: Callable) -> None:
    node = await new_node()
    visitor = await visit(node)
    handshake = DiallerHandshake(terms(node.identity), node.peer)
    for message in handshake.receive(encode(await visitor.hear())):
        visitor.say(message)
    assert await visitor.hear() == Refused(code="self", reason="this node dialled itself")
    assert await visitor.is_cut_off()
    assert not node.mesh.peers()


@pytest.mark.parametrize("tls", [False, True])
async def test_who_does_not_prove_himself_in_time_is_cut_off(new_node: NodeFactory, visit: Callable, tls: bool) -> None:
    node = await new_node(handshake_seconds=0.3)
    visitor = await visit(node, tls=tls)
    visitor.writer.write(b"\x16" if not tls else b"\x10")  # one byte of something that might become good
    assert await visitor.is_cut_off()
    await node.until(lambda: node.said("refused"))
    assert node.said("refused")[0][1] == "did not prove who it is within 0.3 s"


async def test_a_flood_of_silent_visitors_does_not_keep_a_peer_out(
    new_node: NodeFactory, visit: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(p2p.channel.listener, "MAX_UNPROVEN", 4)
    node, peer = await new_node(), await new_node()
    visitors = [await visit(node, tls=False) for _ in range(12)]
    peer.mesh.dial(node.contact())
    await asyncio.gather(peer.linked(node), node.linked(peer))
    assert await visitors[0].is_cut_off()  # the oldest goes first
    assert len(node.mesh._listener._unproven) <= 4
    assert "4 newer connections have not proved who they are" in [reason for _, reason in node.said("refused")]


async def test_a_port_scan_is_nothing_to_tell(new_node: NodeFactory, visit: Callable) -> None:
    node, peer = await new_node(), await new_node()
    visitor = await visit(node, tls=False)
    await visitor.close()
    peer.mesh.dial(node.contact())
    await node.linked(peer)
    assert not node.said("refused")


async def test_a_lane_for_a_link_that_is_not_there_is_refused(new_node: NodeFactory, visit: Callable) -> None:
    node = await new_node()
    with pytest.raises(LaneRefused, match="no link that this lane could join"):
        await dial_lane(("127.0.0.1", node.port), bytes(16), bytes(64), 1, 10.0)
    assert not node.said("refused")


async def test_a_lane_by_who_does_not_know_the_secret_is_refused(new_node: NodeFactory, visit: Callable) -> None:
    node, peer = await new_node(), await new_node()
    peer.mesh.dial(node.contact())
    await asyncio.gather(peer.linked(node), node.linked(peer))
    [link] = node.mesh._links.values()
    visitor = await visit(node, tls=False)
    visitor.writer.write(MAGIC + link.id + bytes([2]) + bytes(SALT_BYTES))
    assert await visitor.reader.readexactly(SALT_BYTES + OVERHEAD_BYTES)
    visitor.writer.write(Sealer(bytes(32)).greeting())
    assert await visitor.is_cut_off()
    await node.until(lambda: node.said("refused"))
    assert "a bulk lane of a link that it does not know" in node.said("refused")[0][1]
    assert node.mesh.peers() == {peer.peer}


@pytest.mark.parametrize("lane", [0, 1, MAX_LANES + 1])
async def test_a_lane_that_is_taken_or_cannot_be_is_refused(new_node: NodeFactory, lane: int) -> None:
    node, peer = await new_node(), await new_node()
    peer.mesh.dial(node.contact())
    await asyncio.gather(peer.linked(node), node.linked(peer))
    await peer.mesh.send_bulk(node.peer, bulk(1), [memoryview(b"x")])  # there is lane 1 on both sides
    await node.until(lambda: node.messages)
    [link] = node.mesh._links.values()
    with pytest.raises(LaneRefused):
        await dial_lane(("127.0.0.1", node.port), link.id, link.secret, lane, 10.0)


async def test_who_asks_for_a_lane_and_says_no_more_is_cut_off(new_node: NodeFactory, visit: Callable) -> None:
    node = await new_node(handshake_seconds=0.3)
    visitor = await visit(node, tls=False)
    visitor.writer.write(MAGIC)
    assert await visitor.is_cut_off()
    await node.until(lambda: node.said("refused"))


async def test_a_man_in_the_middle_with_his_own_certificate_gets_nothing(new_node: NodeFactory) -> None:
    victim, node = await new_node(), await new_node()
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(1000))
        writer.close()

    thief = Identity.generate()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context(thief))
    address = ("127.0.0.1", server.sockets[0].getsockname()[1])
    node.mesh.dial(victim.contact().model_copy(update={"addresses": (address,)}))
    await node.until(lambda: node.said("refused"))
    assert node.said("refused") == [(victim.peer, f"{thief.peer_id} answers at its address")]
    assert not node.mesh.peers()
    await node.mesh.close()
    server.close()
    await server.wait_closed()
    assert not heard


async def test_a_server_without_an_identity_gets_nothing(new_node: NodeFactory) -> None:
    victim, node = await new_node(), await new_node()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp ready\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = ("127.0.0.1", server.sockets[0].getsockname()[1])
    node.mesh.dial(victim.contact(1, address))  # its second address is right
    await asyncio.gather(node.linked(victim), victim.linked(node))
    server.close()
    await server.wait_closed()
