from __future__ import annotations

import gc

import numpy as np
import pytest

from ops.codec import CODECS, Encoded
from p2p.reduce.recycler import Recycler

COUNT = 100_000


def address(encoded: Encoded) -> int:
    return int(encoded.codes.ctypes.data)


@pytest.mark.parametrize("name", sorted(CODECS))
@pytest.mark.parametrize("count", [0, 1, COUNT])
def test_memory_is_used_again_when_nobody_looks_at_it_any_more(name: str, count: int) -> None:
    recycler = Recycler(1 << 30)
    first = recycler.allocate(CODECS[name], count)
    CODECS[name].quantise(np.ones(count, np.float32), first)
    where, size = address(first), first.nbytes
    assert recycler.kept_bytes == 0
    del first
    gc.collect()
    assert recycler.kept_bytes >= size
    assert address(recycler.allocate(CODECS[name], count)) == where


@pytest.mark.parametrize(
    "view", [lambda e: e.slice(0, 1024), lambda e: e.buffers()[-1][5:9], lambda e: e.scales_B[1:2]]
)
def test_memory_that_is_still_looked_at_is_left_alone(view: object) -> None:
    recycler = Recycler(1 << 30)
    first = recycler.allocate(CODECS["int8"], COUNT)
    where = address(first)
    looking = view(first)  # type: ignore[operator]
    del first
    gc.collect()
    assert recycler.kept_bytes == 0
    assert address(recycler.allocate(CODECS["int8"], COUNT)) != where
    del looking
    gc.collect()
    assert recycler.kept_bytes > 0


def test_no_more_is_kept_than_was_allowed() -> None:
    one = Recycler(1 << 30).allocate(CODECS["int8"], COUNT).nbytes
    recycler = Recycler(int(2.5 * one))
    many = [recycler.allocate(CODECS["int8"], COUNT) for _ in range(5)]
    newest = [address(encoded) for encoded in many[3:]]
    while many:
        many.pop(0)
    gc.collect()
    assert 2 * one <= recycler.kept_bytes <= 2.5 * one
    again = [recycler.allocate(CODECS["int8"], COUNT) for _ in range(2)]
    assert {address(encoded) for encoded in again} == set(newest)


def test_memory_of_another_size_is_not_mistaken() -> None:
    recycler = Recycler(1 << 30)
    recycler.allocate(CODECS["int8"], COUNT)
    gc.collect()
    other = recycler.allocate(CODECS["int4"], COUNT)
    assert other.nbytes == CODECS["int4"].code_bytes(COUNT) + 4 * CODECS["int4"].scale_count(COUNT)
