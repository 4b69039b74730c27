"""A page of shared memory in which every rank of a group shows that it lives and how far it is."""

from __future__ import annotations

import mmap

import numpy as np

from swarm.train.ranks.shared import SharedMemory

MAX_RANKS = mmap.PAGESIZE // 64
_BEATS, _BEGUN, _ENDED = range(3)


class Pulse:
    """Three counters a rank, each written by that rank alone: beats of its own thread, commands begun and ended.

    A process that is stopped does not beat, whatever the others do; one that hangs in a step beats on and ends nothing.
    """

    def __init__(self, memory: SharedMemory) -> None:
        self.memory = memory
        self._counters = np.frombuffer(memory.map, np.int64).reshape(-1, 8)  # a cache line each

    @classmethod
    def create(cls) -> Pulse:
        return cls(SharedMemory.create("swarm-pulse", mmap.PAGESIZE))

    def beat(self, rank: int) -> None:
        self._counters[rank, _BEATS] += 1

    def begin(self, rank: int) -> None:
        self._counters[rank, _BEGUN] += 1

    def end(self, rank: int) -> None:
        self._counters[rank, _ENDED] += 1

    def beats(self, world: int) -> tuple[int, ...]:
        return tuple(int(value) for value in self._counters[:world, _BEATS])

    def progress(self, world: int) -> tuple[int, ...]:
        """Commands begun plus commands ended, of each rank."""
        return tuple(int(value) for value in self._counters[:world, _BEGUN : _ENDED + 1].sum(axis=1))
