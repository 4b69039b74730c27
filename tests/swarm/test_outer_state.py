"""The outer state: the reference optimizer's bits, versions that never mix, digests of what is really held."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ops.codec import CODECS, Encoded, get_codec
from ops.digest import digest, root
from ops.outer_step import nesterov_step
from p2p.protocol.fragments import Fragments
from p2p.protocol.holdings import EMPTY
from p2p.transfer.state import StateDigests, StateStore, chunk_digest, part_digests
from swarm.outer_state import OuterState

CHUNK = 2048
COUNT = 5 * CHUNK + 700
LR, MU = 0.7, 0.9


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def mean_of(seed: int, codec: str = "int8", count: int = COUNT) -> Encoded:
    values = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
    encoded = Encoded.allocate(get_codec(codec).of_means, count)
    encoded.codec.quantise(values, encoded)
    return encoded


def state(pool: ThreadPoolExecutor, codec: str = "int8", round: int = -1, seed: int = 1, **options: Any) -> OuterState:
    theta_P = np.random.default_rng(seed).standard_normal(COUNT).astype(np.float32)
    momentum_P = np.zeros(COUNT, np.float32)
    return OuterState(
        theta_P,
        momentum_P,
        codec=get_codec(codec),
        lr=LR,
        momentum=MU,
        pool=pool,
        round=round,
        chunk_values=CHUNK,
        **options,
    )


def test_is_a_state_store(pool: ThreadPoolExecutor) -> None:
    store: StateStore = state(pool)
    assert store.count == COUNT


@pytest.mark.parametrize("codec", list(CODECS))
async def test_apply_is_the_plain_outer_step_of_the_decoded_mean(pool: ThreadPoolExecutor, codec: str) -> None:
    outer = state(pool, codec)
    theta_P, momentum_P = outer.theta_P.copy(), outer.momentum_P.copy()
    for round in range(3):
        mean = mean_of(round, codec)
        await outer.apply(mean, round)
        mean_P = np.empty(COUNT, np.float32)
        mean.codec.decode(mean, mean_P)
        nesterov_step(theta_P, momentum_P, mean_P, lr=LR, momentum=MU)
    assert outer.round == 2
    assert outer.theta_P.tobytes() == theta_P.tobytes()
    assert outer.momentum_P.tobytes() == momentum_P.tobytes()


async def test_a_round_without_weight_moves_the_number_only(pool: ThreadPoolExecutor) -> None:
    outer = state(pool)
    before = await outer.digests()
    await outer.apply(None, 0)
    after = await outer.digests()
    assert (before.round, after.round) == (-1, 0)
    assert before.root == after.root
    assert outer.means == {}


async def test_rounds_cannot_be_skipped_nor_repeated(pool: ThreadPoolExecutor) -> None:
    outer = state(pool)
    for round in (-1, 1):
        with pytest.raises(AssertionError):
            await outer.apply(None, round)
    assert outer.round == -1


@pytest.mark.parametrize("codec", list(CODECS))
async def test_replayed_chunks_are_the_applied_ones(pool: ThreadPoolExecutor, codec: str) -> None:
    ahead, behind = state(pool, codec), state(pool, codec)
    mean = mean_of(3, codec)
    await ahead.apply(mean, 0)
    for index in range(behind.chunks):
        start, stop = index * CHUNK, min((index + 1) * CHUNK, COUNT)
        data = behind.replayed(index, 0, mean.slice(start, stop))
        assert behind.version(index) == -1, "the store stays as it is"
        assert (0, data) == ahead.read(index)
        behind.write(index, 0, data)
    assert await behind.digests() == await ahead.digests()
    assert behind.replayed(0, 1, None) == behind.read(0)[1]


async def test_digests_are_of_the_contents(pool: ThreadPoolExecutor) -> None:
    outer = state(pool)
    await outer.apply(mean_of(0), 0)
    found = await outer.digests()
    parts = [part_digests(outer.read(index)[1]) for index in range(outer.chunks)]
    assert found.chunks == tuple(chunk_digest(pair) for pair in parts)
    assert found.root == root(found.chunks)
    thetas = [digest(outer.theta_P[start : start + CHUNK]) for start in range(0, COUNT, CHUNK)]
    assert found.theta == root(thetas)
    assert found.momentum != found.theta
    assert outer.manifests[0] == found.chunks
    assert await outer.digests() is found, "hashed once a round"


async def test_digests_follow_writes(pool: ThreadPoolExecutor) -> None:
    outer = state(pool)
    before = await outer.digests()
    round, data = outer.read(2)
    data[5] ^= 1
    outer.write(2, round, data)
    after = await outer.digests()
    changed = [a != b for a, b in zip(before.chunks, after.chunks, strict=True)]
    assert changed == [False, False, True, False, False, False]
    assert before.theta != after.theta
    assert before.momentum == after.momentum


async def test_mixed_rounds_have_no_digest(pool: ThreadPoolExecutor) -> None:
    outer = state(pool, round=EMPTY)
    assert outer.round is None
    outer.write(0, 4, state(pool).read(0)[1])
    assert outer.round is None
    with pytest.raises(AssertionError, match="several rounds"):
        await outer.digests()


async def test_only_the_last_means_and_manifests_are_kept(pool: ThreadPoolExecutor) -> None:
    outer = state(pool, keep_means=2)
    for round in range(5):
        await outer.apply(mean_of(round), round)
        await outer.digests()
    assert list(outer.means) == [3, 4]
    assert list(outer.manifests) == [2, 3, 4]
    small = state(pool, keep_means=8, keep_bytes=3 * mean_of(0).nbytes)
    none = state(pool, keep_means=8, keep_bytes=10)
    for round in range(5):
        await small.apply(mean_of(round), round)
        await none.apply(mean_of(round), round)
    assert list(small.means) == [2, 3, 4]
    assert none.means == {}
    for kept, means in ((outer, 2), (small, 3), (none, 0), (state(pool, keep_means=0, keep_bytes=10), 0)):
        assert kept.kept_sizes() == [mean_of(0).count] * means
    small.forget_history()
    assert small.means == {}


async def test_readers_see_one_round_at_a_time(pool: ThreadPoolExecutor) -> None:
    """While rounds are applied, every chunk read is bit for bit what its label says."""
    reference = state(pool)
    true = [[bytes(reference.read(index)[1]) for index in range(reference.chunks)]]
    for round in range(20):
        await reference.apply(mean_of(round), round)
        true.append([bytes(reference.read(index)[1]) for index in range(reference.chunks)])

    outer = state(pool)
    stop, wrong, reads = threading.Event(), [], 0

    def reader() -> None:
        nonlocal reads
        while not stop.is_set():
            index = reads % outer.chunks
            round, data = outer.read(index)
            reads += 1
            if true[round + 1][index] != data:
                wrong.append((index, round))

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    for round in range(20):
        await outer.apply(mean_of(round), round)
    stop.set()
    for thread in threads:
        thread.join()
    assert reads > 0
    assert wrong == []


async def test_a_cancelled_apply_is_still_whole(pool: ThreadPoolExecutor) -> None:
    outer = state(pool)
    task = asyncio.create_task(outer.apply(mean_of(0), 0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert outer.round in (-1, 0)


FRAGMENTS = Fragments((0, CHUNK + 1024, 4 * CHUNK, COUNT))


async def test_a_round_moves_its_fragment_as_the_plain_step_would_and_leaves_the_rest(pool: ThreadPoolExecutor) -> None:
    outer = state(pool, fragments=FRAGMENTS)
    theta_P, momentum_P = outer.theta_P.copy(), outer.momentum_P.copy()
    for round in range(7):
        start, stop = FRAGMENTS.span(round)
        mean = mean_of(round, count=stop - start)
        await outer.apply(mean, round)
        mean_P = np.empty(stop - start, np.float32)
        mean.codec.decode(mean, mean_P)
        nesterov_step(theta_P[start:stop], momentum_P[start:stop], mean_P, lr=LR, momentum=MU)
        assert outer.theta_P.tobytes() == theta_P.tobytes()
        assert outer.momentum_P.tobytes() == momentum_P.tobytes()
        assert (await outer.digests()).root == digests_of(outer).root, "what was not moved need not be hashed again"


async def test_a_snapshot_stays_while_rounds_move_one_fragment_after_the_other(pool: ThreadPoolExecutor) -> None:
    outer = state(pool, fragments=FRAGMENTS)
    before_P = outer.theta_P.copy()
    snapshot = outer.snapshot()
    for round in range(3):
        await outer.apply(mean_of(round, count=FRAGMENTS.size(round)), round)
    kept_P = np.concatenate([snapshot.read(index)[0] for index in range(outer.chunks)])
    assert kept_P.tobytes() == before_P.tobytes()
    assert not np.array_equal(outer.theta_P, before_P)
    outer.release(snapshot)


async def test_means_are_kept_for_as_many_steps_of_everything(pool: ThreadPoolExecutor) -> None:
    outer = state(pool, fragments=FRAGMENTS, keep_means=2)
    for round in range(9):
        await outer.apply(mean_of(round, count=FRAGMENTS.size(round)), round)
    assert sorted(outer.means) == list(range(3, 9))
    assert sorted(outer.kept_sizes()) == sorted(mean.count for mean in outer.means.values())


def digests_of(outer: OuterState) -> StateDigests:
    """From the bytes themselves."""
    assert outer.round is not None
    return StateDigests.of(outer.round, [part_digests(outer.read(index)[1]) for index in range(outer.chunks)])
