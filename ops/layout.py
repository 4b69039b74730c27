"""Where each parameter of a model lies in the flat vector; the same however the model is sharded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from ops.digest import digest


class BadLayout(ValueError):
    """Parameters that cannot be laid out."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A parameter at [start, stop) of the flat vector, row-major."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int

    def shard(self, rank: int, world: int) -> tuple[int, int]:
        """The part of the flat vector that holds the rows of one rank: consecutive, as sharding is by dimension 0."""
        rows = self.shape[0] if self.shape else 1
        first, last = rows_of_rank(rows, rank, world)
        row_size = (self.stop - self.start) // rows if rows else 0
        return self.start + first * row_size, self.start + last * row_size


@dataclass(frozen=True)
class FlatLayout:
    """The entries, in the order of the model's named parameters; together they fill the vector without gaps."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, parameters: Iterable[tuple[str, Sequence[int]]], place: Callable[[str], Any] = lambda _name: 0) -> Self:
        """Lay out (name, shape) pairs one after the other, by their `place` and where that is equal as they come.

        Raises BadLayout for a name that occurs twice.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for name, shape in parameters:
            if name in shapes:
                raise BadLayout(
                    f"parameter {name!r} occurs twice: a tied parameter has one entry, under its first name"
                )
            shapes[name] = tuple(int(size) for size in shape)
        starts: dict[str, int] = {}
        start = 0
        for name in sorted(shapes, key=place):
            starts[name] = start
            start += math.prod(shapes[name])
        return cls(
            tuple(Entry(name, shape, starts[name], starts[name] + math.prod(shape)) for name, shape in shapes.items())
        )

    @property
    def count(self) -> int:
        """Number of values."""
        return max((entry.stop for entry in self.entries), default=0)

    def entry(self, name: str) -> Entry:
        """The entry of that name. Raises KeyError."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Entry]:
        return {entry.name: entry for entry in self.entries}

    @cached_property
    def digest(self) -> bytes:
        """BLAKE3 of names, shapes and places, 32 bytes; equal for equal layouts only (all lengths are written out)."""
        words: list[bytes] = []
        for entry in self.entries:
            name = entry.name.encode()
            words += [
                _number(len(name)),
                name,
                _number(len(entry.shape)),
                *map(_number, entry.shape),
                _number(entry.start),
            ]
        return digest(b"".join(words))


def rows_of_rank(rows: int, rank: int, world: int) -> tuple[int, int]:
    """Rows [start, stop) of dimension 0 that FSDP2 gives one rank: runs of ceil(rows / world), as torch.chunk cuts.

    The last ranks may get fewer rows or none.
    """
    assert 0 <= rank < world, (rank, world)
    run = -(-rows // world)
    return min(rank * run, rows), min((rank + 1) * run, rows)


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little")
