from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from swarm.priority import NICER, give_way

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a thread has a priority of its own on Linux only")
MOST = 19


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_gives_way_with_all_that_it_starts_and_no_other_does() -> None:
    before = niceness()
    with ThreadPoolExecutor(1, initializer=give_way) as pool:
        assert pool.submit(niceness).result() == min(MOST, before + NICER)
        assert pool.submit(in_a_thread, niceness).result() == min(MOST, before + NICER)
    assert niceness() == in_a_thread(niceness) == before


def test_who_has_the_lowest_priority_already_keeps_it() -> None:
    def as_nice_as_can_be() -> int:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), MOST)
        give_way()
        return niceness()

    assert in_a_thread(as_nice_as_can_be) == MOST


def in_a_thread(work: Callable[[], int]) -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()
