"""Which stretch of the flat vector a round averages, when a run streams its fragments. Pure.

The vector is cut into F fragments, the same for the whole run; round r averages fragment r mod F and leaves the rest of
theta and momentum alone. Whatever a round says of values (segments, pieces, parts, means) is counted from the start of
its fragment. Everybody derives the fragment from the round's number, so no plan can choose another. With F = 1 it is
the whole vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2p.protocol.model import MAX_FRAGMENTS


@dataclass(frozen=True, slots=True)
class Fragments:
    """The cuts of a vector."""

    bounds: tuple[int, ...]
    """Fragment f is [bounds[f], bounds[f + 1]): F + 1 ascending values from 0 to the length of the vector."""

    def __post_init__(self) -> None:
        assert self.bounds[0] == 0
        assert list(self.bounds) == sorted(self.bounds)
        assert 2 <= len(self.bounds) <= MAX_FRAGMENTS + 1

    @classmethod
    def whole(cls, count: int) -> Fragments:
        """One fragment: each round averages everything."""
        return cls((0, count))

    @classmethod
    def equal(cls, count: int, fragments: int, block: int) -> Fragments:
        """As equal as they can be if all are whole blocks, but for the last one's end."""
        blocks = -(-count // block)
        return cls((*(block * (blocks * cut // fragments) for cut in range(fragments)), count))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def count(self) -> int:
        """Values in the vector."""
        return self.bounds[-1]

    def of_round(self, round: int) -> int:
        """The fragment that a round averages."""
        return round % len(self)

    def span(self, round: int) -> tuple[int, int]:
        """[start, stop) of what a round averages."""
        index = self.of_round(round)
        return self.bounds[index], self.bounds[index + 1]

    def size(self, round: int) -> int:
        """How many values a round averages."""
        start, stop = self.span(round)
        return stop - start

    def touched(self, round: int, start: int, stop: int) -> tuple[int, int]:
        """What a round moves of the values [start, stop) of the vector; an empty range if nothing."""
        first, last = self.span(round)
        low, high = max(start, first), min(stop, last)
        return (low, high) if low < high else (start, start)


def earlier_tokens(trained: Sequence[int]) -> set[int]:
    """What a member may count for a round beside that round's own tokens.

    `trained`: its tokens of the rounds since the fragment was last averaged, the newest last. All of them if it went on
    from there; only the newest ones, or none, if it began anew from theta in between.
    """
    sums, total = {0}, 0
    for tokens in reversed(trained):
        total += tokens
        sums.add(total)
    return sums
