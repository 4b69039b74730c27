"""A process that sees another time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swarm.simulate import clock
from swarm.simulate.clock import NoFakeClock, skewed

CODE = "import threading, time; print(time.time(), time.monotonic()); threading.Event().wait(0.1)"


def test_a_right_clock_needs_nothing() -> None:
    assert skewed(0.0) == {}


@pytest.mark.parametrize("seconds", [300.0, -300.0])
def test_the_wall_clock_is_wrong_and_the_monotonic_one_is_not(seconds: float) -> None:
    try:
        environment = os.environ | skewed(seconds)
    except NoFakeClock as reason:
        pytest.skip(str(reason))
    before = set(os.listdir("/dev/shm"))
    result = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    wall, monotonic = map(float, result.stdout.split())
    assert abs(wall - time.time() - seconds) < 30
    assert abs(monotonic - time.monotonic()) < 30
    assert {name for name in set(os.listdir("/dev/shm")) - before if "faketime" in name} == set()


def test_without_the_library_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clock, "find_spec", lambda name: None)
    monkeypatch.setattr(clock, "_FOLDERS", (str(tmp_path),))
    with pytest.raises(NoFakeClock, match="apt-get install libfaketime"):
        skewed(1.0)
    (tmp_path / "x86_64-linux-gnu" / "faketime").mkdir(parents=True)
    library = tmp_path / "x86_64-linux-gnu" / "faketime" / "libfaketime.so.1"
    library.write_bytes(b"")
    assert skewed(-1.5)["FAKETIME"] == "-1.500s"
    assert skewed(1.5)["LD_PRELOAD"] == str(library)
