"""How the flat vector is cut: into pieces, and those into a span for each owner. Pure functions of the plan.

The pieces are one grid over the whole vector, fixed for a round by its first plan: whatever is planned anew when
somebody dies, a piece stays the same piece, and what is held of it is still of use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class PieceSize(NamedTuple):
    """Values in a piece: a span is cut into about `per_span`, but none is outside of the two limits."""

    smallest: int = 32 * 1024
    largest: int = 1024 * 1024
    per_span: int = 16

    def finer(self) -> PieceSize:
        """For a plan with a slow member: it has nothing to receive before the first pieces that it gives have left, and
        nothing to give while it waits for the means of its last ones."""
        return self._replace(per_span=FINER * self.per_span)


FINER = 4
"""Times as many pieces."""
PIECE_SIZE = PieceSize()
"""The headers of the smallest piece, a frame's and a record's, are less than 0.5 % of it."""


def piece_size(count: int, owners: int, block: int, limits: PieceSize = PIECE_SIZE) -> int:
    """Values in a piece, a multiple of `block`, such that equal spans for `owners` are whole pieces, but the last."""
    span = max(1, -(-count // owners))
    wanted = max(1, min(limits.per_span, span // limits.smallest))
    pieces = max(wanted, -(-span // limits.largest))
    return -(-span // (pieces * block)) * block


@dataclass(frozen=True, slots=True)
class Grid:
    """The pieces of a vector of `count` values: all of `piece` values but the last, which may be shorter."""

    count: int
    piece: int

    def __len__(self) -> int:
        return -(-self.count // self.piece)

    def start(self, index: int) -> int:
        """First value of a piece; of the one behind the last: `count`."""
        return min(index * self.piece, self.count)

    def size(self, index: int) -> int:
        return self.start(index + 1) - self.start(index)

    def find(self, start: int, stop: int) -> int | None:
        """The piece with exactly these bounds, if there is one."""
        index, offset = divmod(start, self.piece)
        return index if not offset and start < stop == self.start(index + 1) else None


def plan_spans(count: int, shares: Sequence[float], piece: int) -> tuple[int, ...]:
    """Bounds of one span a member: `len(shares) + 1` ascending values, 0 to `count`, multiples of `piece` but the last.

    Spans are as near to proportional to `shares` (the members' bandwidths: finite, not negative, not all zero) as whole
    pieces allow; small vectors leave some of them empty.
    """
    assert count >= 0
    assert piece > 0
    total = sum(shares)
    assert total > 0
    pieces = -(-count // piece)
    bounds, before = [0], 0.0
    for share in shares:
        before += share
        bounds.append(min(round(pieces * (before / total)) * piece, count))
    bounds[-1] = count
    return tuple(bounds)
