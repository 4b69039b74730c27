from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.train.ranks import messages
from swarm.train.ranks.messages import decode, encode, indices_of, ranges_of

counts = st.integers(0, (1 << 62) - 1)
ranges = st.lists(st.tuples(counts, counts), max_size=5).map(tuple)
names = st.lists(st.text(max_size=20), max_size=4).map(tuple)
everything = st.one_of(
    st.builds(
        messages.Setup,
        rank=st.integers(1, 8),
        world=st.integers(2, 8),
        config=st.text(max_size=100),
        values=st.integers(1, 1 << 40),
    ),
    st.builds(messages.Form),
    st.builds(messages.Load, vector=counts),
    st.builds(messages.Store, vector=counts),
    st.builds(
        messages.Step,
        samples=ranges,
        ahead=st.lists(ranges, max_size=4).map(tuple),
        of=st.integers(1, 1 << 40),
        micro_batches=st.integers(1, 100),
    ),
    st.builds(messages.Evaluate, start=counts, stop=counts),
    st.builds(messages.StoreOptimizer, names=names),
    st.builds(messages.LoadOptimizer, names=names, steps=counts),
    st.builds(messages.Joined, rank=st.integers(1, 8)),
    st.builds(messages.Done),
    st.builds(messages.Failed, reason=st.text(max_size=100)),
)


@given(everything)
def test_every_message_comes_back_as_it_was(message: messages.Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[1]",
        b'{"kind": "dance"}',
        b'{"kind": "load"}',
        b'{"kind": "load", "vector": -1}',
        b'{"kind": "load", "vector": "0"}',
        b'{"kind": "load", "vector": 0, "more": 1}',
        b'{"kind": "step", "samples": [[0, 4]], "ahead": [], "of": 4, "micro_batches": 0}',
        b'\xff{"kind": "done"}',
    ],
)
def test_anything_else_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)


@given(st.lists(st.integers(0, 30)))
def test_ranges_keep_indices_and_their_order(indices: list[int]) -> None:
    assert indices_of(ranges_of(indices)) == indices


def test_neighbours_share_a_range() -> None:
    assert ranges_of([4, 5, 6, 9, 2, 3]) == ((4, 7), (9, 10), (2, 4))
