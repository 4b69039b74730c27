"""Large stretches of memory, in huge pages where the system grants them: fewer page faults, fewer misses of the TLB."""

from __future__ import annotations

import mmap
from contextlib import suppress

from ops.jit import Bytes

HUGE_PAGE_BYTES = 2 << 20


def private_memory(size: int) -> mmap.mmap:
    """`size` bytes, zeros at first, that no other process sees.

    By default Python maps shared memory, for which most systems grant no huge pages.
    """
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    ask_for_huge_pages(memory)
    return memory


def ask_for_huge_pages(memory: mmap.mmap) -> None:
    """For memory that is large enough to hold one wherever it begins."""
    if len(memory) >= 2 * HUGE_PAGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel built without them
            memory.madvise(mmap.MADV_HUGEPAGE)


def touch(memory: Bytes) -> None:
    """Have the kernel find pages for memory whose contents do not matter. Other threads can run meanwhile."""
    memory[:: mmap.PAGESIZE] = 0
