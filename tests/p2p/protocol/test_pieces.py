from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.pieces import PIECE_SIZE, Grid, PieceSize, piece_size, plan_spans

FRAME_BYTES = 64
"""More than a piece's message and frame header take."""


@given(
    count=st.integers(1, 10**12),
    shares=st.lists(st.floats(0, 1e12), min_size=1, max_size=40).filter(lambda shares: sum(shares) > 0),
    piece=st.sampled_from([1, 128, 1024]),
)
def test_spans_tile_the_vector_at_pieces(count: int, shares: list[float], piece: int) -> None:
    bounds = plan_spans(count, shares, piece)
    assert len(bounds) == len(shares) + 1
    assert bounds[0] == 0
    assert bounds[-1] == count
    assert list(bounds) == sorted(bounds)
    assert all(bound % piece == 0 for bound in bounds[:-1] if bound != count)


def test_spans_follow_the_shares() -> None:
    assert plan_spans(10_240, [3.0, 0.0, 1.0, 1.0], 1024) == (0, 6144, 6144, 8192, 10_240)
    assert plan_spans(500, [1.0, 1.0, 1.0], 1024) in {(0, 0, 500, 500), (0, 0, 0, 500), (0, 500, 500, 500)}


limits_of_any_size = st.builds(PieceSize, st.integers(1, 10**4), st.integers(10**4, 10**7), st.integers(1, 64))


@given(count=st.integers(1, 10**9), piece=st.integers(1, 10**7))
def test_pieces_tile_the_vector_and_are_found_by_their_bounds_only(count: int, piece: int) -> None:
    grid = Grid(count, piece)
    last = len(grid) - 1
    assert grid.start(0) == 0
    assert grid.start(last + 1) == count
    assert 0 < grid.size(last) <= piece
    for index in {0, last // 2, last}:
        start, stop = grid.start(index), grid.start(index + 1)
        assert grid.find(start, stop) == index
        assert grid.find(start, stop - 1) is None
        assert grid.find(start, stop + piece) is None
        assert piece == 1 or grid.find(start + 1, stop) is None
    assert grid.find(count, count) is None
    assert grid.find(grid.start(last) + piece, count + piece) is None


@given(
    count=st.integers(1, 10**10),
    owners=st.integers(1, 100),
    block=st.sampled_from([1, 128, 1024]),
    limits=limits_of_any_size,
)
def test_equal_spans_are_whole_pieces_within_the_limits(count: int, owners: int, block: int, limits: PieceSize) -> None:
    piece = piece_size(count, owners, block, limits)
    assert piece % block == 0
    span = -(-count // owners)
    assert piece <= max(limits.largest, 1) + block
    assert piece >= min(limits.smallest, span, limits.largest // 2)
    bounds = plan_spans(count, [1.0] * owners, piece)
    assert max(stop - start for start, stop in pairwise(bounds)) <= span + 2 * piece


@pytest.mark.parametrize("span", [10_000, 200_000, 6_250_000, 25_000_000, 10**9])
def test_there_are_several_pieces_and_headers_are_small(span: int) -> None:
    pieces = -(-span // piece_size(4 * span, 4, 1024))
    assert pieces >= min(6, span // PIECE_SIZE.smallest)
    assert FRAME_BYTES * pieces < 0.005 * max(span, PIECE_SIZE.smallest) * 0.5  # even at 4 bits a value
