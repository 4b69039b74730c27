"""A process that sees another time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swarm.simulate import clock
from swarm.simulate.clock import NoWrongClock, skewed

CODE = """
import datetime, threading, time
print(time.time(), datetime.datetime.now().timestamp(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))
began = time.monotonic()
threading.Event().wait(0.2)
assert 0.1 < time.monotonic() - began < 20
"""


def test_a_right_clock_needs_nothing(tmp_path: Path) -> None:
    assert skewed(0.0, tmp_path) == skewed(0.2, tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [300.0, -300.0])
def test_the_wall_clock_is_wrong_and_the_others_are_not(tmp_path: Path, seconds: float) -> None:
    environment = os.environ | skewed(seconds, tmp_path)
    result = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    *walls, monotonic, boot = map(float, result.stdout.split())
    assert all(abs(wall - time.time() - seconds) < 30 for wall in walls)
    assert abs(monotonic - time.monotonic()) < 30
    assert abs(boot - time.clock_gettime(time.CLOCK_BOOTTIME)) < 30


def test_without_a_compiler_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(NoWrongClock, match="apt-get install gcc"):
        skewed(1.0, tmp_path)


def test_what_the_compiler_says_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clock, "_SOURCE", "#error out of order\n")
    with pytest.raises(NoWrongClock, match=r"does not compile: .*"):
        skewed(1.0, tmp_path)
