"""What a process holds is counted."""

from __future__ import annotations

import asyncio
import mmap
import os
import threading

import numpy as np

from swarm.vitals import vitals


async def test_what_is_taken_is_counted_and_what_is_given_back_is_not() -> None:
    before = vitals()
    block = np.frombuffer(mmap.mmap(-1, 50_000_000), np.uint8)  # of the allocator's it may be memory that was there
    block[:] = 1
    ends = os.pipe()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    task = asyncio.create_task(asyncio.sleep(60))
    held = vitals()
    assert held["memory_bytes"] - before["memory_bytes"] > 0.9 * block.nbytes
    assert held["descriptors"] - before["descriptors"] == 2
    assert held["threads"] - before["threads"] == 1
    assert held["tasks"] - before["tasks"] == 1
    for end in ends:
        os.close(end)
    stop.set()
    thread.join()
    task.cancel()
    await asyncio.wait({task})
    after = vitals()
    assert [after[name] for name in ("descriptors", "threads", "tasks")] == [
        before[name] for name in ("descriptors", "threads", "tasks")
    ]
