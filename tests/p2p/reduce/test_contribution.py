from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ops.codec import CODECS, Encoded, NonFinite
from p2p.reduce.contribution import CHUNK_VALUES, Contribution
from tests.p2p.reduce.memory_carrier import until

COUNT = 3 * CHUNK_VALUES + 5


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


async def test_every_value_is_quantised_once_and_only_when_wanted(pool: ThreadPoolExecutor) -> None:
    calls: list[tuple[int, int]] = []

    def source(start: int, stop: int, out: Encoded) -> None:
        assert out.count == stop - start
        calls.append((start, stop))

    contribution = Contribution(Encoded.allocate(CODECS["int8"], COUNT), source, pool)
    await contribution.ensure([(0, 10), (5, 20)])
    assert calls == [(0, CHUNK_VALUES)]
    await asyncio.gather(*(contribution.ensure([(0, COUNT)]) for _ in range(3)))
    assert sorted(calls) == [(i * CHUNK_VALUES, min((i + 1) * CHUNK_VALUES, COUNT)) for i in range(4)]
    await contribution.ensure([])
    assert contribution.idle


async def test_a_cancelled_attempt_leaves_its_work_to_the_next(pool: ThreadPoolExecutor) -> None:
    begun, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    def source(start: int, stop: int, out: Encoded) -> None:
        calls.append(start)
        begun.set()
        assert go_on.wait(10)

    contribution = Contribution(Encoded.allocate(CODECS["int8"], COUNT), source, pool)
    first = asyncio.create_task(contribution.ensure([(0, 1)]))
    await until(begun.is_set)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not contribution.idle
    second = asyncio.create_task(contribution.ensure([(0, 1)]))
    await asyncio.sleep(0)
    assert not second.done()
    go_on.set()
    await second
    assert calls == [0]
    assert contribution.idle


async def test_what_the_source_raises_comes_out_each_time(pool: ThreadPoolExecutor) -> None:
    def source(start: int, stop: int, out: Encoded) -> None:
        raise NonFinite("NaN")

    contribution = Contribution(Encoded.allocate(CODECS["int8"], COUNT), source, pool)
    for _ in range(2):
        with pytest.raises(NonFinite):
            await contribution.ensure([(0, 1)])
