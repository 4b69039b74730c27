"""Memory that the ranks of one machine share: anonymous (memfd), so that nothing of it can stay behind.

It has no name and goes with the last process that maps it, however that ends. Shape suffix: P values of a flat vector.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ops.memory import ask_for_huge_pages, private_memory


class SharedMemory:
    """Zeros at first; `descriptor` may be passed to another process, which maps the same memory with `of`."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Takes the descriptor over."""
        self.descriptor, self.size = descriptor, size
        self.map = mmap.mmap(descriptor, size)
        ask_for_huge_pages(self.map)  # granted where the system allows it for shared memory

    @classmethod
    def create(cls, name: str, size: int) -> SharedMemory:
        """`name` is for people who look into /proc."""
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size)
        return cls(descriptor, size)

    @classmethod
    def of(cls, descriptor: int) -> SharedMemory:
        """What another process created."""
        return cls(descriptor, os.fstat(descriptor).st_size)

    def floats(self) -> NDArray[np.float32]:
        return np.frombuffer(self.map, np.float32)

    def close(self) -> None:
        """Give up the descriptor; the memory stays as long as arrays refer to it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class FlatVectors:
    """The flat vectors of a node: theta, which members share, and what the node's own training made of it."""

    NAMES = ("theta", "local")

    def __init__(self, memories: list[SharedMemory] | None, vectors_P: list[NDArray[np.float32]]) -> None:
        self._memories = memories or []
        self.all_P = vectors_P
        self.theta_P, self.local_P = vectors_P

    @classmethod
    def private(cls, count: int) -> FlatVectors:
        """For a node whose only rank is this process."""
        return cls(None, [_private_floats(count) for _ in cls.NAMES])

    @classmethod
    def shared(cls, count: int) -> FlatVectors:
        memories = [SharedMemory.create(f"swarm-{name}", 4 * count) for name in cls.NAMES]
        return cls(memories, [memory.floats() for memory in memories])

    @classmethod
    def of(cls, descriptors: list[int], count: int) -> FlatVectors:
        """The vectors that rank 0 created."""
        memories = [SharedMemory.of(descriptor) for descriptor in descriptors]
        assert all(memory.size == 4 * count for memory in memories), "shared vectors of another length"
        return cls(memories, [memory.floats() for memory in memories])

    @property
    def descriptors(self) -> list[int]:
        return [memory.descriptor for memory in self._memories]

    def index(self, vector_P: NDArray[np.float32]) -> int:
        """Which of them this is; the other ranks can reach no other vector."""
        for index, own_P in enumerate(self.all_P):
            if own_P is vector_P:
                return index
        raise AssertionError("not one of the node's flat vectors")

    def close(self) -> None:
        for memory in self._memories:
            memory.close()


@dataclass(frozen=True, slots=True)
class LentVectors:
    """Flat vectors that other ranks fill or read, by name; with a descriptor for each if there are other ranks."""

    vectors: dict[str, NDArray[np.float32]]
    descriptors: tuple[int, ...] = ()


@contextmanager
def lent(
    names: Sequence[str], count: int, contents: Mapping[str, NDArray[np.float32]] | None = None
) -> Iterator[LentVectors]:
    """Vectors of `count` values in shared memory, zero or with these contents; the arrays may outlive the context."""
    memories = {name: SharedMemory.create(f"swarm-{name}", 4 * count) for name in names}
    try:
        vectors = {name: memory.floats() for name, memory in memories.items()}
        for name, values_P in (contents or {}).items():
            vectors[name][:] = values_P
        yield LentVectors(vectors, tuple(memory.descriptor for memory in memories.values()))
    finally:
        for memory in memories.values():
            memory.close()


def _private_floats(count: int) -> NDArray[np.float32]:
    return np.frombuffer(private_memory(4 * count), np.float32)
