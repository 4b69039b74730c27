"""What the answers of state transfer weigh, and how much of them may be under way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Of one run, whose vector has `values` values."""

    values: int
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
        return index * self.chunk_values, min((index + 1) * self.chunk_values, self.values)

    @property
    def chunks(self) -> int:
        return -(-self.values // self.chunk_values)

    @property
    def replay_limit(self) -> int:
        """Most means that weigh less than the chunk they spare."""
        return (self.chunk_bytes - 1) // self.mean_bytes
