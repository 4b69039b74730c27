"""The reduce over the real mesh: TLS, sockets, bytes counted by the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from benchmarks.reduce_node import FINGERPRINT, ReduceNode
from ops.codec import CODECS, Codec, Encoded
from ops.jit import Floats
from p2p.contact import Contact
from p2p.protocol.messages import Plan
from p2p.reduce.reducer import ReduceResult
from tests.p2p.protocol.drafts import plan_of

DEADLINE_S = 30.0
CONNECT_BYTES = 20_000
"""Allowance for the handshakes of one link."""


class Node(ReduceNode):
    """Remembers why its links ended."""

    def __init__(self, pool: ThreadPoolExecutor, codec: Codec, count: int) -> None:
        super().__init__(codec, count, pool)
        self.down: list[str] = []

    def on_link_down(self, peer: str, reason: str) -> None:
        self.down.append(reason)
        super().on_link_down(peer, reason)


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


class Swarm:
    def __init__(self, nodes: list[Node], codec: Codec, count: int) -> None:
        self.nodes, self.codec, self.count = nodes, codec, count
        generator = np.random.default_rng(1)
        self.x_NP: list[Floats] = [generator.standard_normal(count).astype(np.float32) for _ in nodes]

    def plan(self, weights: Sequence[int], round: int = 0) -> Plan:
        names = [node.name for node in self.nodes]
        return plan_of(
            weights, self.count, self.codec.block, members=names, ballot=(round, 0, 0), codec=self.codec.name
        )

    def begin(self, plan: Plan) -> None:
        for node, x_P, weight in zip(self.nodes, self.x_NP, plan.draft.weights, strict=True):

            def source(start: int, stop: int, out: Encoded, x_P: Floats = x_P) -> None:
                self.codec.quantise(x_P[start:stop], out)

            node.reducer.begin_round(plan.ballot.round, source if weight else None)

    async def reduce(self, plan: Plan) -> list[ReduceResult]:
        self.begin(plan)
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.gather(*(node.reducer.reduce(plan) for node in self.nodes))

    def expected(self, plan: Plan) -> bytes:
        parts, weights = [], [float(weight) for weight in plan.draft.weights if weight]
        for x_P, weight in zip(self.x_NP, plan.draft.weights, strict=True):
            if weight:
                parts.append(Encoded.allocate(self.codec, self.count))
                self.codec.quantise(x_P, parts[-1])
        out = Encoded.allocate(self.codec.of_means, self.count)
        self.codec.mean(parts, weights, out)
        return b"".join(out.buffers())


async def connected(nodes: Sequence[Node]) -> None:
    contacts = []
    for node in nodes:
        port = await node.mesh.listen("127.0.0.1", 0)
        contacts.append(
            Contact(peer=node.name, p2pd="", addresses=(("127.0.0.1", port),), fingerprint=FINGERPRINT, sequence=1)
        )
    for index, node in enumerate(nodes):
        for contact in contacts[:index]:
            node.mesh.dial(contact)


@pytest.fixture
async def swarm(request: pytest.FixtureRequest, pool: ThreadPoolExecutor) -> AsyncIterator[Swarm]:
    members, name, count = request.param
    nodes = [Node(pool, CODECS[name], count) for _ in range(members)]
    await connected(nodes)
    yield Swarm(nodes, CODECS[name], count)
    for node in nodes:
        await node.reducer.close()
    await asyncio.gather(*(node.mesh.close() for node in nodes))


@pytest.mark.parametrize(
    "swarm",
    [
        (2, "int8", 3_000_000),
        (3, "int4", 2_000_000),
        (2, "int2", 2_000_000),
        (4, "int8", 4_000_000),
        (3, "fp32", 500_000),
    ],
    indirect=True,
)
async def test_the_bytes_at_the_socket_are_those_of_the_formula(swarm: Swarm) -> None:
    members = len(swarm.nodes)
    plan = swarm.plan([7] * members)
    for result in await swarm.reduce(plan):
        assert b"".join(result.mean.buffers()) == swarm.expected(plan)
    bound = 2 * (members - 1) / members * swarm.count * swarm.codec.reduce_bits_per_value / 8
    # What the kernel received is what was sent but for repetitions: on a busy machine TCP probes for a lost tail, even
    # on loopback. By symmetry the bound is the same.
    if all(node.mesh.wire_bytes_exact for node in swarm.nodes):
        received = [node.mesh.wire_bytes().received for node in swarm.nodes]
        for node_received in received:
            assert node_received <= 1.01 * bound + (members - 1) * CONNECT_BYTES
        assert sum(received) >= members * bound
    assert all(not node.down for node in swarm.nodes)


@pytest.mark.parametrize("swarm", [(3, "int8", 1_000_000)], indirect=True)
async def test_rounds_with_a_newcomer_and_a_link_that_is_dropped_in_the_middle(swarm: Swarm) -> None:
    first = swarm.plan([5, 0, 3])
    for result in await swarm.reduce(first):
        assert b"".join(result.mean.buffers()) == swarm.expected(first)
    second = swarm.plan([5, 1, 3], round=1)
    task = asyncio.create_task(swarm.reduce(second))
    nodes = swarm.nodes
    async with asyncio.timeout(DEADLINE_S):
        while not 0 < (books.values_held if (books := nodes[0].reducer.progress()) else 0) < swarm.count:  # noqa: ASYNC110 - a counter raises no event
            await asyncio.sleep(0)
    nodes[0].mesh.drop(nodes[1].name, "a test")
    for result in await task:
        assert b"".join(result.mean.buffers()) == swarm.expected(second)
    assert nodes[1].down == ["closed by the peer: a test"]
