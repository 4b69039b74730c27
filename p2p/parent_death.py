"""Let no process outlive the one that started it (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here, because a forked child should not open libraries


def die_with_parent(parent: int, signal_number: int = signal.SIGKILL) -> None:
    """Have the kernel send us `signal_number` when the thread that started us ends; exit now if `parent` already has.

    Call it in the child, first thing (as `preexec_fn` of a subprocess, or after a fork). `parent` is the process id of
    the parent as the parent saw it, so that a parent which died before this call is noticed too.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        os._exit(1)
    if os.getppid() != parent:
        os._exit(1)
