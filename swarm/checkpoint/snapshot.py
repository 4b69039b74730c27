"""The state of one round for a reader that takes its time, while rounds go on.

Nothing is copied when a snapshot is taken. A chunk is copied when the reader comes to it, or by whoever is about to
change it, whichever is first: a reader that is done before the next commit costs training nothing.

Shape suffix: _P values of a chunk, _C one entry a chunk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Chunk: TypeAlias = tuple[Floats, Floats]
"""theta and momentum of the same values."""


class Snapshot:
    """Made by `OuterState.snapshot`, which calls `keep` before it changes a chunk. Each chunk can be read once."""

    def __init__(self, round: int, locks_C: Sequence[threading.Lock], chunk: Callable[[int], Chunk]) -> None:
        """`chunk(index)` gives the live arrays, which may only be looked at under the chunk's lock."""
        self.round = round
        self._locks_C, self._chunk = locks_C, chunk
        self._pending = set(range(len(locks_C)))
        self._kept: dict[int, Chunk] = {}

    @property
    def chunks(self) -> int:
        return len(self._locks_C)

    @property
    def bytes_kept(self) -> int:
        """Memory of chunks that had to be copied before they were read."""
        return sum(theta_P.nbytes + momentum_P.nbytes for theta_P, momentum_P in tuple(self._kept.values()))

    def read(self, index: int) -> Chunk:
        """Copies of theta and momentum of a chunk as they were when the snapshot was taken; from any thread."""
        with self._locks_C[index]:
            self.keep(index)
            return self._kept.pop(index)

    def keep(self, index: int) -> None:
        """The chunk is about to change, and its lock is held."""
        if index in self._pending:
            theta_P, momentum_P = self._chunk(index)
            self._kept[index] = theta_P.copy(), momentum_P.copy()
            self._pending.discard(index)

    def close(self) -> None:
        """Nobody reads any more."""
        self._pending.clear()
        self._kept.clear()
