"""An observer gets the node's word over a real channel, and one clear line where there is none to get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from p2p.channel.hello import Hello, RunIdentity
from p2p.channel.mesh import Mesh
from p2p.identity import Identity
from p2p.observe import NoAnswer, observe
from p2p.protocol.ballot import Ballot
from p2p.protocol.message import Message
from p2p.protocol.messages import Commit, Ledger, Record, Seat, Segment, SignedRecord, Status

RUN = RunIdentity(b"f" * 32, {"name": "demo", "model": "demo"})


def status(height: int) -> Status:
    return Status(
        sequence=1,
        height=height,
        head=b"h" * 32,
        tokens_total=100,
        state_root=b"r" * 32,
        phase="training",
        inner_step=7,
        moved=0,
        promised=None,
        ready=None,
        vote=None,
        hears=(),
        silent=(),
        waiting_on=(),
    )


def commit(peer: str) -> Commit:
    record = Record(
        round=3,
        previous=b"p" * 32,
        fingerprint=b"f" * 32,
        ballot=Ballot(round=3, attempt=0, rank=0, lineage=0),
        seats=(Seat(peer=peer, tokens=5, used=()),),
        codec="int8",
        piece=10,
        segments=(Segment(stop=10, contributors=b"\1", digest=b"d" * 32),),
        state_root=b"",
        tokens_total=100,
        ledger=Ledger(cursor=0, free=(), assigned=()),
    )
    return Commit(signed=SignedRecord(record=record, signatures=((0, b"s" * 64),)))


class Node:
    """The least a node does for an observer: it tells it `messages` when its link is up."""

    def __init__(self, admit: str | None = None) -> None:
        self.identity = Identity.generate()
        self.messages: list[Message] = []
        self.roles: list[str] = []
        self.mesh = Mesh(self.identity, RUN, self, admit=lambda hello: admit)

    def open_payload(self, peer: str, message: Message, size: int) -> None:
        return None

    def on_message(self, peer: str, message: Message, payload: Sequence[memoryview] | None) -> None:
        raise AssertionError("observers say nothing")

    def on_link_up(self, peer: str, hello: Hello) -> None:
        self.roles.append(hello.role)
        for message in self.messages:
            self.mesh.send(peer, message)

    def on_link_down(self, peer: str, reason: str) -> None: ...

    def on_unreachable(self, peer: str, reason: str) -> None: ...

    def on_refused(self, peer: str, reason: str) -> None: ...


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    yield node
    await node.mesh.close()


async def test_it_gets_status_and_last_record(node: Node) -> None:
    port = await node.mesh.listen("127.0.0.1", 0)
    node.messages = [status(3), commit(node.identity.peer_id)]
    seen = await observe("127.0.0.1", port, 10.0)
    assert seen.hello.peer == node.identity.peer_id
    assert seen.status == status(3)
    assert seen.record == node.messages[1].signed  # type: ignore[attr-defined]
    assert node.roles == ["observer"]


async def test_a_run_without_a_record_is_answered_too(node: Node) -> None:
    port = await node.mesh.listen("127.0.0.1", 0)
    node.messages = [status(-1)]
    assert (await observe("127.0.0.1", port, 10.0)).record is None


async def test_a_node_that_says_nothing_is_no_answer(node: Node) -> None:
    port = await node.mesh.listen("127.0.0.1", 0)
    with pytest.raises(NoAnswer, match=rf"127\.0\.0\.1:{port} gave no answer within 0\.3 s"):
        await observe("127.0.0.1", port, 0.3)


async def test_a_refusal_is_told() -> None:
    node = Node(admit="members only")
    port = await node.mesh.listen("127.0.0.1", 0)
    with pytest.raises(NoAnswer, match=r"refused to answer: .*members only"):
        await observe("127.0.0.1", port, 10.0)
    await node.mesh.close()


async def test_nobody_there_is_no_answer(node: Node) -> None:
    port = await node.mesh.listen("127.0.0.1", 0)
    await node.mesh.close()
    with pytest.raises(NoAnswer, match="nothing answers at"):
        await observe("127.0.0.1", port, 10.0)


async def test_another_service_is_no_node() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ready\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(NoAnswer, match=rf"127\.0\.0\.1:{port}"):
        await observe("127.0.0.1", port, 5.0)
    server.close()
    await server.wait_closed()
