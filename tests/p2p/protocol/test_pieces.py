from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.pieces import PIECE_SIZE, PieceSize, SpanCut, plan_spans, send_order

FRAME_BYTES = 64
"""More than a piece's message and frame header take."""


@given(
    count=st.integers(1, 10**12),
    shares=st.lists(st.floats(0, 1e12), min_size=1, max_size=40).filter(lambda shares: sum(shares) > 0),
    block=st.sampled_from([1, 128, 1024]),
)
def test_spans_tile_the_vector_at_blocks(count: int, shares: list[float], block: int) -> None:
    bounds = plan_spans(count, shares, block)
    assert len(bounds) == len(shares) + 1
    assert bounds[0] == 0
    assert bounds[-1] == count
    assert list(bounds) == sorted(bounds)
    assert all(bound % block == 0 for bound in bounds[:-1] if bound != count)


def test_spans_follow_the_shares() -> None:
    assert plan_spans(10_240, [3.0, 0.0, 1.0, 1.0], 1024) == (0, 6144, 6144, 8192, 10_240)
    assert plan_spans(500, [1.0, 1.0, 1.0], 1024) in {(0, 0, 500, 500), (0, 0, 0, 500), (0, 500, 500, 500)}


@given(
    start=st.integers(0, 10**9),
    length=st.integers(0, 10**8),
    block=st.sampled_from([1, 128, 1024]),
    limits=st.builds(PieceSize, st.integers(1, 10**4), st.integers(10**4, 10**7), st.integers(1, 64)),
)
def test_pieces_tile_their_span_and_are_found_by_their_bounds_only(
    start: int, length: int, block: int, limits: PieceSize
) -> None:
    cut = SpanCut.of(2, start, start + length, block, limits)
    assert cut.size % block == 0
    assert (len(cut) == 0) == (length == 0)
    if length:
        first, last = cut[0], cut[len(cut) - 1]
        assert (first.start, last.stop) == (start, start + length)
        assert all(cut[i].stop == cut[i + 1].start for i in range(min(len(cut) - 1, 50)))
        for piece in (first, last):
            assert cut.find(piece.start, piece.stop) == piece
            assert cut.find(piece.start + 1, piece.stop) is None
            assert cut.find(piece.start, piece.stop - 1) is None
            assert cut.find(piece.start, piece.stop + cut.size) is None
    assert cut.find(start - cut.size, start) is None
    assert cut.find(start + len(cut) * cut.size, start + (len(cut) + 1) * cut.size) is None
    with pytest.raises(IndexError):
        cut[len(cut)]


@pytest.mark.parametrize("span", [10_000, 200_000, 6_250_000, 25_000_000, 10**9])
def test_there_are_several_pieces_and_headers_are_small(span: int) -> None:
    cut = SpanCut.of(0, 0, span, 1024)
    assert len(cut) >= min(6, span // PIECE_SIZE.smallest)
    assert FRAME_BYTES * len(cut) < 0.005 * max(span, PIECE_SIZE.smallest) * 0.5  # even at 4 bits a value


def test_every_member_starts_with_another_owner() -> None:
    cuts = [SpanCut.of(rank, rank * 100, (rank + 1) * 100, 1, PieceSize(30, 30, 1)) for rank in range(3)]
    orders = [send_order(cuts, rank) for rank in range(3)]
    assert [order[0].owner for order in orders] == [1, 2, 0]
    for rank, order in enumerate(orders):
        assert len(order) == len(set(order)) == 12
        assert [piece.owner for piece in order[:3]] == [(rank + 1) % 3, (rank + 2) % 3, rank]
        assert [piece.index for piece in order] == sorted(piece.index for piece in order)
