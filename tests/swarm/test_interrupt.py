"""Ctrl-C at bad moments: it waits, or ends the process without a word; children never see it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from swarm.interrupt import INTERRUPTED, interrupt_blocked_in_children, interrupt_held

BLOCKED = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_held_interrupt_waits_until_it_is_asked_for() -> None:
    done = []

    def work() -> None:
        with interrupt_held() as check:
            check()
            interrupt()
            done.append("what must not be cut in two")
            check()
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["what must not be cut in two"]


def test_a_held_interrupt_is_not_lost_if_nobody_asks() -> None:
    with pytest.raises(KeyboardInterrupt), interrupt_held():
        interrupt()
    with interrupt_held() as check:
        check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_goes_before_a_held_interrupt() -> None:
    def fail() -> None:
        with interrupt_held():
            interrupt()
            raise ValueError

    with pytest.raises(ValueError):
        fail()


def test_it_is_held_whichever_thread_takes_the_signal() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()

    def work() -> None:
        with interrupt_held() as check, interrupt_blocked_in_children():
            interrupt()  # the other thread does not block it
            done.set()
            other.join()
            check()

    with pytest.raises(KeyboardInterrupt):
        work()


def test_children_never_see_it() -> None:
    with interrupt_blocked_in_children():
        inside = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=True)
    after = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=True)
    assert (inside.stdout.strip(), after.stdout.strip()) == ("True", "False")


def test_at_once_means_without_a_word() -> None:
    code = (
        "import os, signal, swarm.interrupt as i\n"
        "with i.interrupt_ends_at_once():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "print('never')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (INTERRUPTED, "", "")
