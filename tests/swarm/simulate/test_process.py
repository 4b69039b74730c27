"""Children go when asked, when told, and when the simulation is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.simulate.process import Child, living_groups, processes_of, stop_all

POLITE = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
)
LITTERER = (
    "import subprocess, sys, signal; subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
    "print('up', flush=True); signal.pause()"
)


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def start(code: str, tmp_path: Path) -> Child:
    child = Child([sys.executable, "-c", code], tmp_path / "output.log", os.environ)
    wait_until(lambda: "up" in child.lines())
    return child


def test_a_polite_child_leaves_on_sigterm(tmp_path: Path) -> None:
    child = start(POLITE, tmp_path)
    assert child.status is None
    assert child.group_lives()
    assert stop_all([child]) == []
    assert child.status == -signal.SIGTERM
    assert not child.group_lives()


def test_a_stubborn_child_is_killed_and_named(tmp_path: Path) -> None:
    child = start(STUBBORN, tmp_path)
    assert stop_all([child], grace=0.2) == [child]
    assert child.status == -signal.SIGKILL


def test_what_a_child_leaves_behind_is_killed_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.simulate.process.GROUP_SECONDS", 0.2)
    child = start(LITTERER, tmp_path)
    child.kill()
    child.process.wait()
    assert child.group_lives()
    assert stop_all([child]) == [child]
    wait_until(lambda: child.pid not in living_groups())


def test_a_frozen_child_stands_still_with_all_it_started_until_it_thaws(tmp_path: Path) -> None:
    child = start(LITTERER, tmp_path)
    tree = processes_of(tmp_path).keys() | {child.pid}
    child.freeze()
    assert child.frozen
    wait_until(lambda: {state(pid) for pid in tree} == {"T"})
    child.thaw()
    assert not child.frozen
    wait_until(lambda: "T" not in {state(pid) for pid in tree})
    child.kill_group()
    child.process.wait()


def test_a_frozen_child_can_be_asked_to_leave_and_killed(tmp_path: Path) -> None:
    for end, status in ((Child.terminate, -signal.SIGTERM), (Child.kill, -signal.SIGKILL)):
        child = start(POLITE, tmp_path)
        child.freeze()
        end(child)
        assert child.process.wait(20) == status
        child.freeze()  # nothing is left of it
        assert not child.frozen


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_processes_are_found_by_the_folder_they_have_to_do_with(tmp_path: Path) -> None:
    child = start(POLITE, tmp_path)
    assert child.pid not in processes_of(tmp_path)
    stop_all([child])
    command = [sys.executable, "-c", POLITE + f" # {tmp_path}"]
    named = Child(command, tmp_path / "named.log", os.environ)
    wait_until(lambda: "up" in named.lines())
    assert str(tmp_path) in processes_of(tmp_path)[named.pid]
    stop_all([named])
    assert processes_of(tmp_path) == {}


def test_a_child_has_its_own_session_so_that_ctrl_c_does_not_reach_it(tmp_path: Path) -> None:
    child = start(POLITE, tmp_path)
    assert os.getsid(child.pid) == child.pid
    stop_all([child])


def test_the_last_line_is_the_error_message(tmp_path: Path) -> None:
    child = Child([sys.executable, "-c", "print('first'); print('last'); print()"], tmp_path / "log", {})
    child.process.wait()
    assert child.last_line() == "last"
    silent = Child([sys.executable, "-c", ""], tmp_path / "log2", {})
    silent.process.wait()
    assert silent.last_line() == "it said nothing"


def test_children_get_sigterm_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent_code = f"""
import os, pathlib, sys, time
from swarm.simulate.process import Child
child = Child([sys.executable, "-c", {POLITE!r}], pathlib.Path({str(tmp_path / "child.log")!r}), os.environ)
while "up" not in child.lines(): time.sleep(0.01)
print(child.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert child in living_groups()
        parent.kill()
        parent.wait()
    wait_until(lambda: child not in living_groups())
