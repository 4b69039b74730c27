"""Memory as the kernel sees it: private, and asked for in huge pages when it is large."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from ops.memory import HUGE_PAGE_BYTES, ask_for_huge_pages, private_memory, touch


def flags_of(memory: mmap.mmap) -> list[str]:
    """What the kernel notes of the mapping (proc(5), VmFlags): sh shared, hg huge pages advised."""
    address, found = np.frombuffer(memory, np.uint8).ctypes.data, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if not head.endswith(":"):
            first, last = (int(bound, 16) for bound in head.split("-"))
            found = first <= address < last
        elif found and head == "VmFlags:":
            return line.split()[1:]
    raise AssertionError("not mapped")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/smaps")
def test_large_memory_is_private_and_may_lie_in_huge_pages() -> None:
    flags = flags_of(private_memory(4 * HUGE_PAGE_BYTES))
    assert "sh" not in flags
    if Path("/sys/kernel/mm/transparent_hugepage").exists():
        assert "hg" in flags


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/smaps")
def test_small_memory_is_private_too() -> None:
    assert not {"sh", "hg"} & set(flags_of(private_memory(mmap.PAGESIZE)))


def test_it_is_zeros_and_can_be_written() -> None:
    memory = private_memory(3 * HUGE_PAGE_BYTES + 1)
    values = np.frombuffer(memory, np.uint8)
    assert not values.any()
    values[-1] = 7
    assert memory[-1] == 7


def test_a_kernel_without_huge_pages_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345, raising=False)
    ask_for_huge_pages(mmap.mmap(-1, 2 * HUGE_PAGE_BYTES))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
def test_touched_memory_is_there_before_it_is_used() -> None:
    memory = np.frombuffer(private_memory(16 * HUGE_PAGE_BYTES), np.uint8)
    before = resident_bytes()
    touch(memory[1000:-1000])
    assert resident_bytes() > before + 14 * HUGE_PAGE_BYTES
    assert not memory.any()


def test_nothing_can_be_touched() -> None:
    touch(np.empty(0, np.uint8))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
