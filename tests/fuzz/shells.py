"""Level (b), with bytes: reducers and state transfers whose peer sends anything, payloads too, while they work.

An episode is a swarm that does its work while hostile frames come in one member's name. Then the liar goes, and the
others must finish: the reduce with the exact mean of those who are left, the fetch with the signed state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np

from ops.codec import CODECS
from p2p.channel.frames import MAX_PAYLOAD_BYTES
from p2p.protocol.ballot import Ballot
from p2p.protocol.message import Message
from p2p.protocol.messages import GetRecords, Go, Mean, Part, Plan, Records, decode, encode
from p2p.protocol.model import BadMessage
from p2p.protocol.transfer_messages import (
    Chunk,
    GetChunk,
    GetManifest,
    GetMean,
    Manifest,
    MeanSlice,
    NotAvailable,
    Withdraw,
)
from p2p.reduce.reducer import Reducer
from p2p.transfer.transfer import TransferMessage
from tests.fuzz.hostile import Hostile
from tests.fuzz.storm import Tally, footprint, in_short
from tests.p2p.protocol.drafts import plan_of
from tests.p2p.reduce import memory_carrier
from tests.p2p.reduce.test_reducer import assert_equal_to, begin, expected_mean, members_of, vectors_of
from tests.p2p.transfer import network as transfer_network

REDUCE_FRAMES, TRANSFER_FRAMES = 200, 40
"""In an episode. A fetch soon asks nothing more of somebody who was refused."""
DEADLINE_SECONDS = 60.0
MOST_BYTES = 64 << 20
"""Of a reducer or a transfer after an episode; their vectors are far smaller."""
CODEC = CODECS["int8"]
COUNT = 20_000
ANSWERS = (Records, Manifest, Chunk, MeanSlice, NotAvailable)
QUESTIONS = (GetRecords, GetManifest, GetChunk, GetMean, Withdraw)


def reduce_storm(random: Random, frames: int, tally: Tally) -> None:
    asyncio.run(_reduce_episodes(random, frames, tally))


def transfer_storm(random: Random, frames: int, tally: Tally) -> None:
    asyncio.run(_transfer_episodes(random, frames, tally))


def payload_of(random: Random, sizes: Sequence[int]) -> bytes:
    """Of a right size, or nearly, or any; zeros, noise, or floats that are none."""
    size = random.choice(sizes)
    if random.random() < 0.2:
        size = random.choice((0, 1, random.randrange(5000), size - 1, size + 1))
    size = min(max(0, size), MAX_PAYLOAD_BYTES)
    kind = random.randrange(4)
    if kind == 0:
        return bytes(size)
    if kind == 1:
        return b"\xff" * size
    if kind == 2:
        return np.full(-(-size // 4), np.inf, np.float32).tobytes()[:size]
    return random.randbytes(size)


# --- the reduce


async def _reduce_episodes(random: Random, frames: int, tally: Tally) -> None:
    for episode, begun in enumerate(range(0, frames, REDUCE_FRAMES)):
        await _reduce_episode(random, min(REDUCE_FRAMES, frames - begun), tally, silent=episode % 2 == 0)


async def _reduce_episode(random: Random, frames: int, tally: Tally, silent: bool) -> None:
    network = memory_carrier.Network(random.randrange(1 << 30))
    plan = plan_of([3, 5, 2], COUNT, CODEC.block, piece=2 * CODEC.block)
    reducers = members_of(network, plan, COUNT, CODEC, window_bytes=random.choice((0, 8192, 1 << 20)))
    x_NP = vectors_of(3, COUNT, random.randrange(1 << 30))
    begin(reducers, plan, CODEC, x_NP)
    liar = plan.draft.members[2]
    hostile = Hostile(random)
    honest = dict(zip(plan.draft.members[:2], reducers[:2], strict=True))
    # Where the liar's honest half is silent, nearly all it could send is still awaited when we send it in its name.
    speaking = reducers[:2] if silent else reducers
    first = [asyncio.create_task(reducer.reduce(plan)) for reducer in speaking]
    for _ in range(frames):
        await network.pause()
        for _, _, message in network.log[-3:]:
            hostile.learn(message)
        name = random.choice(list(honest))
        tally.count(f"reduce: {_say_to_reducer(random, hostile, network, name, liar, plan)}")
    for task in first:
        task.cancel()
    await asyncio.gather(*first, return_exceptions=True)
    for name in honest:
        network.cut.add(frozenset((name, liar)))
        honest[name].on_link_down(liar)
        assert footprint(honest[name]) < MOST_BYTES
    again = plan_of([3, 5], COUNT, CODEC.block, piece=2 * CODEC.block, ballot=(3, 1 << 20, 0))
    async with asyncio.timeout(DEADLINE_SECONDS):
        results = await asyncio.gather(*(reducer.reduce(again) for reducer in honest.values()))
    assert_equal_to(expected_mean(CODEC, x_NP[:2], (3, 5)), results, again)
    for reducer in reducers:
        await reducer.close()


def _pieces(plan: Plan, owner: str) -> list[tuple[int, int]]:
    """Bounds of the pieces that a member owns."""
    draft, found, first = plan.draft, list[tuple[int, int]](), 0
    for segment, route in zip(draft.segments, plan.routes, strict=True):
        if draft.members[route.owner] == owner:
            starts = range(first, segment.stop, draft.piece)
            found += [(start, min(start + draft.piece, segment.stop)) for start in starts]
        first = segment.stop
    return found


def _say_to_reducer(
    random: Random, hostile: Hostile, network: memory_carrier.Network, name: str, liar: str, plan: Plan
) -> str:
    reducer: Reducer = network.reducers[name]
    message = decode(encode(hostile.message(random.choice((Go, Part, Mean)))))
    assert isinstance(message, Go | Part | Mean)
    if random.random() < 0.8:
        ballot = random.choice((plan.ballot, plan.ballot, Ballot(round=3, attempt=1, rank=0, lineage=0)))
        message = message.model_copy(update={"ballot": ballot})
    if not isinstance(message, Go) and random.random() < 0.9:
        start, stop = random.choice(_pieces(plan, name if isinstance(message, Part) else liar))
        message = message.model_copy(update={"start": start, "stop": stop})
    try:
        if isinstance(message, Go):
            reducer.on_go(liar, message)
            return "go taken"
        count = message.stop - message.start
        payload = payload_of(random, [max(0, min(count, COUNT)) + 4 * -(-count // CODEC.block)])
        memory = reducer.open_payload(liar, message, len(payload))
        if memory is None:
            return f"{message.KIND} dropped"
        memory_carrier._fill(memory, [memoryview(payload)])
        reducer.on_payload(liar, message, memory)
    except BadMessage as error:
        network.break_link(name, liar)
        network.mend_link(name, liar)
        return f"{message.KIND} refused: {in_short(str(error))}"
    return f"{message.KIND} taken"


# --- the transfer of state


async def _transfer_episodes(random: Random, frames: int, tally: Tally) -> None:
    with ThreadPoolExecutor(2) as pool:
        while frames > 0:
            await _transfer_episode(random, min(TRANSFER_FRAMES, frames), tally, pool)
            frames -= TRANSFER_FRAMES


async def _transfer_episode(random: Random, frames: int, tally: Tally, pool: ThreadPoolExecutor) -> None:
    network = transfer_network.Network()
    swarm = transfer_network.Swarm(network, pool, members=3)
    await swarm.start(rounds=random.randrange(1, 4))
    newcomer = transfer_network.Node(network, 9, pool, round=-2)
    hostile = Hostile(random)
    liar = swarm.members[0].peer
    asked: list[Message] = []

    def watch(_sender: str, to: str, message: Message) -> None:
        hostile.learn(message)
        if to == liar:
            asked.append(message)

    network.watch = watch
    network.tamper[liar] = lambda message, payload: None  # so that what it is asked stays open for us to answer
    fetching = asyncio.create_task(newcomer.transfer.fetch(swarm.sources))
    for _ in range(frames):
        for _ in range(random.randrange(6)):
            await asyncio.sleep(0)
        to = random.choice((newcomer.peer, newcomer.peer, swarm.members[1].peer))
        tally.count(f"transfer: {_say_to_transfer(random, hostile, network, to, liar, asked[-4:])}")
    network.kill(liar)
    async with asyncio.timeout(DEADLINE_SECONDS):
        result = await fetching
    assert result.root == swarm.root
    assert (await newcomer.state.digests()).root == swarm.root
    for node in (newcomer, swarm.members[1]):
        assert footprint(node.transfer, (node.state, node.chain, network, pool)) < MOST_BYTES
    await swarm.close()


def _answer_to(random: Random, question: Message, drawn: Message) -> Message:
    """Made an answer to what the liar was asked, as far as the names of the fields go."""
    same = {name: getattr(question, name) for name in type(question).model_fields if name in type(drawn).model_fields}
    if same and random.random() < 0.3:
        same.pop(random.choice(list(same)))
    return drawn.model_copy(update=same)


def _say_to_transfer(
    random: Random, hostile: Hostile, network: transfer_network.Network, to: str, liar: str, asked: Sequence[Message]
) -> str:
    """As the mesh would bring it; a refusal is a lost link."""
    transfer = network.nodes[to].transfer
    drawn: Message = hostile.message(random.choice((*ANSWERS, *QUESTIONS)))
    if asked and isinstance(drawn, ANSWERS) and random.random() < 0.8:
        drawn = _answer_to(random, random.choice(asked), drawn)
    try:
        message = decode(encode(drawn))
    except BadMessage:
        return f"{drawn.KIND} malformed"
    assert isinstance(message, TransferMessage)
    try:
        if isinstance(message, Manifest | Chunk | MeanSlice):
            chunk = 8 * transfer_network.CHUNK
            payload = payload_of(random, (chunk, 8 * 500, 32 * transfer_network.CHUNKS, transfer_network.CHUNK + 4))
            memory = transfer.open_payload(liar, message, len(payload))
            if memory is None:
                return f"{message.KIND} dropped"
            memory_carrier._fill(memory, [memoryview(payload)])
        transfer.handle(liar, message)
    except BadMessage as error:
        transfer.link_down(liar, str(error))
        return f"{message.KIND} refused: {in_short(str(error))}"
    return f"{message.KIND} taken"
