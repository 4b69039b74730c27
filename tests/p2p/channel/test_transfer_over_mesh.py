"""State transfer over the real mesh: TLS, sockets, a donor that dies, and a rate limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ops.codec import get_codec
from ops.digest import root
from p2p.channel.hello import Hello, RunIdentity
from p2p.channel.mesh import Mesh
from p2p.contact import Contact
from p2p.identity import Identity, verify
from p2p.protocol.chain import SIGNATURE_DOMAIN, MemoryChain, record_hash
from p2p.protocol.holdings import EMPTY, Source
from p2p.protocol.message import Message
from p2p.protocol.messages import SignedRecord
from p2p.protocol.serving import DeskLimits
from p2p.protocol.transfer_messages import Chunk
from p2p.transfer.transfer import Transfer, TransferMessage, TransferPayload
from swarm.outer_state import OuterState
from tests.p2p.protocol.records import next_record

FINGERPRINT = bytes(range(32))
CHUNK = 64 * 1024
COUNT = 16 * CHUNK
STATE_BYTES = 8 * COUNT
DEADLINE_S = 30.0


class Node:
    """A mesh with a transfer behind it: a MeshHandler."""

    def __init__(self, pool: ThreadPoolExecutor, round: int, limits: DeskLimits | None = None) -> None:
        self.identity = Identity.generate()
        self.name = self.identity.peer_id
        self.mesh = Mesh(self.identity, RunIdentity(FINGERPRINT), self)
        self.state = OuterState(
            np.random.default_rng(0).standard_normal(COUNT).astype(np.float32),
            np.zeros(COUNT, np.float32),
            codec=get_codec("int8"),
            lr=0.7,
            momentum=0.9,
            pool=pool,
            round=round,
            chunk_values=CHUNK,
        )
        self.chain = MemoryChain(FINGERPRINT)
        self.transfer = Transfer(self.mesh, self.state, self.chain, pool, me=self.name, verify=verify, limits=limits)
        self.linked = asyncio.Event()
        self.chunks = 0
        self.on_chunk: Callable[[], None] = lambda: None

    def open_payload(self, peer: str, message: Message, size: int) -> Sequence[memoryview] | None:
        assert isinstance(message, TransferPayload)
        return self.transfer.open_payload(peer, message, size)

    def on_message(self, peer: str, message: Message, payload: Sequence[memoryview] | None) -> None:
        assert isinstance(message, TransferMessage)
        if isinstance(message, Chunk):
            self.chunks += 1
            self.on_chunk()
        self.transfer.handle(peer, message)

    def on_link_up(self, peer: str, hello: Hello) -> None:
        self.linked.set()

    def on_link_down(self, peer: str, reason: str) -> None:
        self.transfer.link_down(peer, reason)

    def on_unreachable(self, peer: str, reason: str) -> None:
        pass

    def on_refused(self, peer: str, reason: str) -> None:
        pass

    def source(self) -> Source:
        tip = self.chain.tip
        return Source(self.name, tip.height, tip.head, root(self.state.manifests[tip.height]))

    async def close(self) -> None:
        await self.transfer.close()
        await self.mesh.close()


Make = Callable[..., Awaitable[tuple[Node, list[Node]]]]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
async def make(pool: ThreadPoolExecutor) -> AsyncIterator[Make]:
    """Builds a newcomer that is linked to donors, which have committed one weightless round."""
    nodes: list[Node] = []

    async def build(donors: int, limits: DeskLimits | None = None) -> tuple[Node, list[Node]]:
        newcomer = Node(pool, EMPTY)
        found = [Node(pool, -1, limits) for _ in range(donors)]
        nodes.extend([newcomer, *found])
        record = next_record(found[0].chain.tip, tokens=0)
        seats = tuple(
            seat.model_copy(update={"peer": node.name}) for seat, node in zip(record.seats, found, strict=False)
        )
        record = record.model_copy(update={"seats": seats})
        signature = found[0].identity.sign(SIGNATURE_DOMAIN, record_hash(record))
        for node in found:
            port = await node.mesh.listen("127.0.0.1", 0)
            node.chain.append(SignedRecord(record=record, signatures=((0, signature),)))
            await node.state.apply(None, 0)
            await node.state.digests()
            contact = Contact(
                peer=node.name, p2pd="", addresses=(("127.0.0.1", port),), fingerprint=FINGERPRINT, sequence=1
            )
            newcomer.mesh.dial(contact)
            await asyncio.wait_for(node.linked.wait(), DEADLINE_S)
        return newcomer, found

    yield build
    for node in nodes:
        await node.close()


async def fetched(newcomer: Node, donors: list[Node]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        result = await newcomer.transfer.fetch(
            lambda: [node.source() for node in donors if node.name in live(newcomer)]
        )
    assert newcomer.state.theta_P.tobytes() == donors[0].state.theta_P.tobytes()
    assert newcomer.chain.tip == donors[0].chain.tip
    assert result.round == 0


def live(newcomer: Node) -> set[str]:
    return newcomer.mesh.peers()


async def test_state_crosses_the_mesh(make: Make) -> None:
    newcomer, donors = await make(3)
    await fetched(newcomer, donors)
    sent = sum(node.mesh.wire_bytes().sent for node in donors)
    assert STATE_BYTES <= sent <= 1.2 * STATE_BYTES
    assert sum(node.transfer.bytes_sent for node in donors) >= STATE_BYTES


async def test_a_donor_dies_half_way(make: Make) -> None:
    newcomer, donors = await make(2)
    closing: list[asyncio.Task[None]] = []

    def die() -> None:
        if newcomer.chunks == 8:
            closing.append(asyncio.create_task(donors[1].mesh.close()))

    newcomer.on_chunk = die
    await fetched(newcomer, donors)
    await asyncio.gather(*closing)


async def test_the_rate_limit_holds_on_the_wire(make: Make) -> None:
    rate = STATE_BYTES / 0.6
    newcomer, donors = await make(1, limits=DeskLimits(bytes_per_second=rate, burst_bytes=1))
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await fetched(newcomer, donors)
    assert loop.time() - begin >= 0.9 * (STATE_BYTES - 8 * CHUNK) / rate
