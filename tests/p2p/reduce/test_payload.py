"""Payloads, packed and not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ops.codec import CODECS, Encoded
from ops.packing import Cost
from p2p.protocol.ballot import Ballot
from p2p.protocol.messages import Mean, Part
from p2p.protocol.model import BadMessage
from p2p.reduce.payload import LOOP_SHARE, MEAN_SHARE, MEANS_KEPT, PART_SHARE, Incoming, Packer, pays_below
from p2p.reduce.recycler import Recycler

INT8 = CODECS["int8"]
COUNT = 100_000
BALLOT = Ballot(round=0, attempt=0, rank=0, lineage=0)
RECYCLER = Recycler(1 << 30)


class CountingPool(ThreadPoolExecutor):
    jobs = 0

    def submit(self, *args: Any, **options: Any) -> Future[Any]:
        self.jobs += 1
        return super().submit(*args, **options)


@pytest.fixture
def pool() -> Iterator[CountingPool]:
    with CountingPool(2) as pool:
        yield pool


def normal(codec_name: str = "int8", count: int = COUNT) -> Encoded:
    codec = CODECS[codec_name]
    encoded = Encoded.allocate(codec, count)
    codec.quantise(np.random.default_rng(3).standard_normal(count).astype(np.float32), encoded)
    return encoded


def packing(pool: Executor) -> Packer:
    packer = Packer(pool, RECYCLER, others=3)
    packer.ways = {"slow": 1e6, "fast": 10e9}
    return packer


def part(start: int = 0) -> Part:
    return Part(ballot=BALLOT, start=start, stop=start + COUNT)


def mean(start: int = 0) -> Mean:
    return Mean(ballot=BALLOT, start=start, stop=start + COUNT)


async def test_a_payload_is_not_packed_unless_that_pays(pool: CountingPool) -> None:
    codes = normal()
    payload = await packing(pool).payload("fast", part(), codes)
    assert b"".join(payload) == b"".join(codes.buffers())
    assert pool.jobs == 0


@pytest.mark.parametrize("name", ["fp32", "int8", "int4", "int2"])
async def test_a_piece_comes_out_as_it_went_in(pool: CountingPool, name: str) -> None:
    codes = normal(name)
    payload = b"".join(await packing(pool).payload("slow", part(), codes))
    assert len(payload) < codes.nbytes or name == "fp32"
    incoming = Incoming(part(), Encoded.allocate(CODECS[name], COUNT), len(payload), RECYCLER)
    for buffer in incoming.buffers():
        buffer[:] = payload[: len(buffer)]
        payload = payload[len(buffer) :]
    assert not payload
    assert b"".join(incoming.finish().buffers()) == b"".join(codes.buffers())


async def test_codes_that_do_not_get_fewer_are_sent_as_they_are(pool: CountingPool) -> None:
    codes = normal()
    codes.codes[:] = np.random.default_rng(4).integers(0, 255, COUNT)
    assert b"".join(await packing(pool).payload("slow", part(), codes)) == b"".join(codes.buffers())


async def test_a_mean_is_packed_once_for_all_and_a_part_for_its_owner(pool: CountingPool) -> None:
    packer, codes = packing(pool), normal()
    for _ in range(3):
        await packer.payload("slow", mean(), codes)
    assert pool.jobs == 1
    await packer.payload("slow", part(), codes)
    await packer.payload("slow", part(COUNT), codes)
    assert pool.jobs == 3


async def test_not_all_means_are_kept(pool: CountingPool) -> None:
    packer, codes = packing(pool), normal(count=1024)
    for start in range(MEANS_KEPT + 1):
        await packer.payload("slow", mean(start), codes)
    before = pool.jobs
    await packer.payload("slow", mean(MEANS_KEPT), codes)
    assert pool.jobs == before
    await packer.payload("slow", mean(0), codes)
    assert pool.jobs == before + 1


@pytest.mark.parametrize("too", [-COUNT, 1])
def test_a_payload_that_cannot_be_the_piece_s_is_refused_before_it_comes(too: int) -> None:
    space = Encoded.allocate(INT8, COUNT)
    with pytest.raises(BadMessage, match=f"{space.nbytes + too} bytes where {space.nbytes} belong"):
        Incoming(part(), space, space.nbytes + too, RECYCLER)


async def test_nothing_is_packed_for_those_of_whom_nothing_is_known(pool: CountingPool) -> None:
    await packing(pool).payload("young", mean(), normal())
    assert pool.jobs == 0


def test_packing_takes_a_small_part_of_the_cores_and_of_the_loop() -> None:
    cost, others = Cost(pack=0.6e-9, unpack=0.4e-9), 3
    few = pays_below(cost, 2, others)
    assert few == pytest.approx({Part: PART_SHARE * 2 / 1.0e-9, Mean: MEAN_SHARE * 2 / 0.6e-9})
    for limits in (pays_below(cost, 64, others), pays_below(cost, 1000, 1)):
        assert set(limits.values()) == {LOOP_SHARE / 0.4e-9}
    assert pays_below(cost, 1, 0)[Mean] == pytest.approx(MEAN_SHARE / 1.0e-9)
