"""What the answers of state transfer weigh, and how much of them may be under way."""

from __future__ import annotations

from dataclasses import dataclass

from p2p.protocol.fragments import Fragments


@dataclass(frozen=True)
class Sizes:
    """Of one run."""

    fragments: Fragments
    """Of its vector: what each round moves."""
    chunk_values: int
    chunk_bytes: int
    mean_bytes: int
    """Of one chunk's slice of a mean."""
    window_bytes: int = 32 << 20
    """Outstanding at one donor; at least one request always may be."""
    memory_bytes: int = 256 << 20
    """Outstanding in all."""

    def bounds(self, index: int) -> tuple[int, int]:
        """The values [start, stop) of chunk `index`."""
        return index * self.chunk_values, min((index + 1) * self.chunk_values, self.fragments.count)

    @property
    def chunks(self) -> int:
        return -(-self.fragments.count // self.chunk_values)

    def moved(self, index: int, round: int) -> tuple[int, int]:
        """The values [start, stop) of a chunk that a round moves; empty if it leaves the chunk alone."""
        return self.fragments.touched(round, *self.bounds(index))

    def moves(self, index: int, round: int) -> bool:
        """Whether a round moves anything of a chunk."""
        start, stop = self.moved(index, round)
        return start < stop

    def slice_bytes(self, start: int, stop: int) -> int:
        """What these values of a chunk weigh in a mean."""
        return -(-self.mean_bytes * (stop - start) // self.chunk_values)

    @property
    def replay_limit(self) -> int:
        """Most rounds whose means, of what they move of a chunk, weigh less than the chunk."""
        return (self.chunk_bytes - 1) // self.mean_bytes * len(self.fragments)
