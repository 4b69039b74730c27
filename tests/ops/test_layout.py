"""Flat layout and the rows of a rank, against torch's own rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ops.layout import BadLayout, Entry, FlatLayout, rows_of_rank

shapes = st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), max_size=6)


@given(shapes)
def test_entries_follow_each_other_without_gaps(sizes: list[tuple[int, ...]]) -> None:
    layout = FlatLayout.of((f"p{n}", shape) for n, shape in enumerate(sizes))
    assert layout.count == sum(math.prod(shape) for shape in sizes)
    at = 0
    for n, shape in enumerate(sizes):
        assert layout.entry(f"p{n}") == Entry(f"p{n}", shape, at, at + math.prod(shape))
        at += math.prod(shape)


@given(shapes, st.integers(1, 7))
def test_the_shards_of_all_ranks_are_the_whole(sizes: list[tuple[int, ...]], world: int) -> None:
    layout = FlatLayout.of((f"p{n}", shape) for n, shape in enumerate(sizes))
    for entry in layout.entries:
        shards = [entry.shard(rank, world) for rank in range(world)]
        assert [value for start, stop in shards for value in range(start, stop)] == list(range(entry.start, entry.stop))


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
def test_rows_are_cut_as_torch_cuts_them(world: int) -> None:
    for rows in range(1, 40):
        chunks = [chunk.tolist() for chunk in torch.arange(rows).chunk(world)]
        chunks += [[]] * (world - len(chunks))
        assert [list(range(*rows_of_rank(rows, rank, world))) for rank in range(world)] == chunks


def test_a_shard_holds_the_rows_of_its_rank() -> None:
    entry = FlatLayout.of([("a", (7,)), ("w", (5, 3))]).entry("w")
    flat_P = np.arange(22)
    weight = flat_P[7:].reshape(5, 3)
    assert flat_P[slice(*entry.shard(1, 2))].tolist() == weight[3:].reshape(-1).tolist()


def test_a_name_may_not_occur_twice_nor_be_made_up() -> None:
    with pytest.raises(BadLayout, match="'a' occurs twice"):
        FlatLayout.of([("a", (1,)), ("a", (1,))])
    with pytest.raises(KeyError):
        FlatLayout.of([("a", (1,))]).entry("b")


def test_a_rank_is_within_its_world() -> None:
    for rank, world in ((-1, 2), (2, 2)):
        with pytest.raises(AssertionError):
            rows_of_rank(4, rank, world)


def test_the_digest_tells_layouts_apart() -> None:
    layouts = [
        [("a", (2, 3))],
        [("a", (3, 2))],
        [("a", (6,))],
        [("b", (2, 3))],
        [("a", (2,)), ("b", (3,))],
        [],
        [("a", ())],
    ]
    digests = {FlatLayout.of(parameters).digest for parameters in layouts}
    assert len(digests) == len(layouts)
    assert FlatLayout.of([("a", [2, 3])]).digest == FlatLayout.of([("a", torch.Size([2, 3]))]).digest


@given(shapes, st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_parameters_may_lie_in_another_order_than_they_come_in(sizes: list[tuple[int, ...]], places: list[int]) -> None:
    where = {f"p{n}": places[n] for n in range(len(sizes))}
    layout = FlatLayout.of(((f"p{n}", shape) for n, shape in enumerate(sizes)), where.__getitem__)
    assert [entry.name for entry in layout.entries] == list(where)
    laid = sorted(layout.entries, key=lambda entry: (entry.start, entry.stop, where[entry.name]))
    assert [value for entry in laid for value in range(entry.start, entry.stop)] == list(range(layout.count))
    full = [entry for entry in laid if entry.stop > entry.start]
    assert [where[entry.name] for entry in full] == sorted(where[entry.name] for entry in full)
