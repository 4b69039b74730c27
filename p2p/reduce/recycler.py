"""Memory for codes, used again and again: clearing fresh pages would be a third of the CPU time of a reduce.

Memory comes back by itself when the last view of it is gone, whoever held it: a frame that is still being sent or
received, a mean that the node keeps for newcomers. So nothing is ever reused too early.
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque

import numpy as np

from ops.codec import Codec, Encoded
from ops.memory import private_memory

_ALIGNMENT = 64


class Recycler:
    """Hands out Encoded's. For one thread, but views may die in any."""

    def __init__(self, keep_bytes: int) -> None:
        """`keep_bytes`: the most unused memory to hold on to; what was used least lately goes first."""
        self._keep_bytes = keep_bytes
        self._kept: deque[tuple[int, mmap.mmap]] = deque()
        self._returned: deque[tuple[int, mmap.mmap]] = deque()

    def allocate(self, codec: Codec, count: int) -> Encoded:
        """Memory for `count` values, contents undefined."""
        scale_bytes = 4 * codec.scale_count(count)
        codes_at = -(-scale_bytes // _ALIGNMENT) * _ALIGNMENT
        code_bytes = codec.code_bytes(count)
        size = max(1, codes_at + code_bytes)
        memory = self._take(size)
        whole = np.frombuffer(memory, np.uint8)
        # Runs when no array and no memoryview refers to `whole` any more.
        weakref.finalize(whole, self._returned.append, (size, memory)).atexit = False
        scales_B = whole[:scale_bytes].view(np.float32)
        return Encoded(codec, count, scales_B, whole[codes_at : codes_at + code_bytes])

    @property
    def kept_bytes(self) -> int:
        """Unused memory held now."""
        self._sort_in()
        return sum(size for size, _ in self._kept)

    def _take(self, size: int) -> mmap.mmap:
        self._sort_in()
        for index, (kept_size, memory) in enumerate(self._kept):
            if kept_size == size:
                del self._kept[index]
                return memory
        return private_memory(size)

    def _sort_in(self) -> None:
        while self._returned:
            self._kept.append(self._returned.popleft())
        kept = sum(size for size, _ in self._kept)
        while kept > self._keep_bytes:
            kept -= self._kept.popleft()[0]
