"""Ctrl-C without a traceback, at whatever moment it comes.

Python raises KeyboardInterrupt between any two bytecodes of the main thread, whatever signals that thread blocks, if
another thread takes the signal. In an import, a destructor or half-way through the start of a process nothing can
catch it properly. So there the signal is handled otherwise.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit status after Ctrl-C, by convention 128 + SIGINT."""


@contextmanager
def interrupt_ends_at_once() -> Iterator[None]:
    """Within, Ctrl-C ends the process without a word: for what leaves nothing behind, as imports do."""
    with _handled_by(lambda: os._exit(INTERRUPTED)):
        yield


@contextmanager
def interrupt_held() -> Iterator[Callable[[], None]]:
    """Within, Ctrl-C waits for a good moment: call what this gives, which then raises KeyboardInterrupt.

    So does the end of the block, unless it raises itself.
    """
    came = False

    def remember() -> None:
        nonlocal came
        came = True

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    with _handled_by(remember):
        yield check
        check()


@contextmanager
def interrupt_blocked_in_children() -> Iterator[None]:
    """Processes that are started within never see Ctrl-C. This one may, in another thread: hold it as well."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handled_by(act: Callable[[], None]) -> Iterator[None]:
    def handle(_signal: int, _frame: FrameType | None) -> None:
        act()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
