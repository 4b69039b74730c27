"""How the flat vector is cut: a span for each member, each span into pieces. Pure functions of the plan.

Every member computes the same cut from the same draft, so a piece needs no more than its bounds on the wire, and a
piece with other bounds is an error of its sender.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Piece:
    """Values [start, stop) of the flat vector: the `index`-th piece of the span of the member with rank `owner`."""

    owner: int
    index: int
    start: int
    stop: int


class PieceSize(NamedTuple):
    """Values in a piece: a span is cut into about `per_span`, but none is outside of the two limits."""

    smallest: int = 32 * 1024
    largest: int = 1024 * 1024
    per_span: int = 16


PIECE_SIZE = PieceSize()
"""A protocol constant. The headers of the smallest piece, a frame's and TLS', are less than 0.5 % of it."""


def plan_spans(count: int, shares: Sequence[float], block: int) -> tuple[int, ...]:
    """Bounds of one span a member: `len(shares) + 1` ascending values, 0 to `count`, multiples of `block` but the last.

    Spans are as near to proportional to `shares` (the members' bandwidths: finite, not negative, not all zero) as whole
    blocks allow; small vectors leave some of them empty.
    """
    assert count >= 0
    assert block > 0
    total = sum(shares)
    assert total > 0
    blocks = -(-count // block)
    bounds, before = [0], 0.0
    for share in shares:
        before += share
        bounds.append(min(round(blocks * (before / total)) * block, count))
    bounds[-1] = count
    return tuple(bounds)


@dataclass(frozen=True, slots=True)
class SpanCut:
    """The pieces of one span: all of `size` values but the last, which may be shorter."""

    owner: int
    start: int
    stop: int
    size: int

    @classmethod
    def of(cls, owner: int, start: int, stop: int, block: int, limits: PieceSize = PIECE_SIZE) -> SpanCut:
        """The cut that all members agree on; `size` is a multiple of `block`."""
        wanted = min(max(-(-(stop - start) // limits.per_span), limits.smallest), limits.largest)
        return cls(owner, start, stop, -(-wanted // block) * block)

    def __len__(self) -> int:
        return -(-(self.stop - self.start) // self.size)

    def __getitem__(self, index: int) -> Piece:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = self.start + index * self.size
        return Piece(self.owner, index, start, min(start + self.size, self.stop))

    def find(self, start: int, stop: int) -> Piece | None:
        """The piece with exactly these bounds, if there is one."""
        index, offset = divmod(start - self.start, self.size)
        if offset or not 0 <= index < len(self):
            return None
        piece = self[index]
        return piece if piece.stop == stop else None


def send_order(cuts: Sequence[SpanCut], rank: int) -> list[Piece]:
    """All pieces, one of each span in turn, from behind our own rank on: members do not all hit the same owner."""
    turn = [*cuts[rank + 1 :], *cuts[: rank + 1]]
    return [cut[index] for index in range(max(map(len, cuts))) for cut in turn if index < len(cut)]
