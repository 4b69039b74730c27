"""Catching up where each round has moved one fragment of the vector: each mean moves its own stretch and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from p2p.protocol.fragments import Fragments
from p2p.protocol.holdings import EMPTY
from p2p.protocol.message import Message
from p2p.protocol.model import BadMessage
from p2p.protocol.transfer_messages import Chunk, GetMean
from p2p.transfer.fetch import FetchResult
from tests.p2p.transfer.network import CHUNK, CHUNKS, COUNT, Network, Node, Swarm

pytestmark = pytest.mark.timeout(30)

FRAGMENTS = Fragments((0, 5 * CHUNK + 256, 15 * CHUNK + 128, COUNT))
"""Cut within chunks, at whole blocks of int4."""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


async def start(pool: ThreadPoolExecutor, rounds: int) -> Swarm:
    swarm = Swarm(Network(), pool, 2, codec="int4", fragments=FRAGMENTS)
    await swarm.start(rounds)
    return swarm


def node_of(swarm: Swarm, round: int) -> Node:
    return Node(swarm.network, 7, swarm.pool, round=round, codec="int4", fragments=FRAGMENTS)


def equal(node: Node, swarm: Swarm, result: FetchResult) -> None:
    one = swarm.members[0]
    assert node.state.round == one.state.round == result.round
    assert node.state.theta_P.tobytes() == one.state.theta_P.tobytes()
    assert node.state.momentum_P.tobytes() == one.state.momentum_P.tobytes()
    assert result.root == swarm.root


@pytest.mark.parametrize("missed", [1, 2, 3, 4, 7, 12])
async def test_a_member_that_missed_rounds_takes_their_means_only(pool: ThreadPoolExecutor, missed: int) -> None:
    swarm = await start(pool, 0)
    node = node_of(swarm, -1)
    for _ in range(missed):
        await swarm.commit()
    result = await node.transfer.fetch(swarm.sources)
    equal(node, swarm, result)
    assert result.chunks == 0
    assert result.replayed == missed * CHUNKS
    await swarm.close()


async def test_rounds_without_weight_move_no_fragment(pool: ThreadPoolExecutor) -> None:
    swarm = await start(pool, 0)
    node = node_of(swarm, -1)
    for weight in (True, False, False, True, True, False, True):
        await swarm.commit(weight)
    equal(node, swarm, await node.transfer.fetch(swarm.sources))
    await swarm.close()


@pytest.mark.parametrize("rounds", [3, 4, 5])
async def test_a_newcomer_becomes_equal_though_a_round_commits_meanwhile(pool: ThreadPoolExecutor, rounds: int) -> None:
    swarm = await start(pool, rounds)
    node = node_of(swarm, EMPTY)
    chunks, commits = [0], list[asyncio.Task[None]]()

    def watch(_sender: str, _to: str, message: Message) -> None:
        chunks[0] += isinstance(message, Chunk)
        if chunks[0] == CHUNKS // 2 and not commits:
            commits.append(asyncio.create_task(swarm.commit()))

    swarm.network.watch = watch
    result = await node.transfer.fetch(swarm.sources)
    await commits[0]
    if result.round < rounds:
        result = await node.transfer.fetch(swarm.sources)
    equal(node, swarm, result)
    assert result.dropped == []
    await swarm.close()


async def test_a_mean_is_given_within_its_rounds_fragment_only(pool: ThreadPoolExecutor) -> None:
    swarm = await start(pool, 4)
    donor = swarm.members[0].transfer
    first, last = FRAGMENTS.span(1)
    for start_, stop in ((0, CHUNK), (first - 128, first + 128), (first + 64, first + 128), (last - 128, last + 128)):
        with pytest.raises(BadMessage, match="of round 1"):
            donor.handle(swarm.members[1].peer, GetMean(request=1, round=1, start=start_, stop=stop))
    await swarm.close()
