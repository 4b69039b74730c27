"""Threads that compute give way to the event loop, which has little to do but must do it at once."""

from __future__ import annotations

import os
import sys
import threading

NICER = 3
"""On a busy core the loop then has twice the share of a thread that computes (sched(7)), and is seldom kept waiting."""


def give_way() -> None:
    """This thread, and what it starts: threads and processes. On Linux, where each thread has a priority of its own."""
    if sys.platform == "linux":
        me = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + NICER)
