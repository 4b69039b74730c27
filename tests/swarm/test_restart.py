from __future__ import annotations

import os
import subprocess
import sys

import pytest

from swarm.restart import LONGEST_PAUSE_SECONDS, company_expected, expect_company, pause_before, restarts

PROGRAM = """
import os, sys
from swarm.restart import restarts, start_again
print(restarts(), os.getpid(), sys.prefix, sys.argv[1:], flush=True)
if restarts() != 1:
    start_again(lived=float(sys.argv[1]))
"""


def test_pauses_grow_and_end() -> None:
    assert [pause_before(count) for count in range(5)] == [0, 0, 2, 4, 8]
    assert pause_before(1000) == LONGEST_PAUSE_SECONDS


def lives(lived: float, count: str) -> list[list[str]]:
    """What a program says in each of its lives."""
    command = [sys.executable, "-c", PROGRAM, str(lived)]
    environment = os.environ | {"SWARM_RESTARTS": count}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return [line.split(maxsplit=2) for line in said.splitlines()]


def test_the_same_process_starts_again_with_the_same_command() -> None:
    first, second = lives(lived=1.0, count="")
    assert (first[0], second[0]) == ("0", "1")
    assert first[1:] == second[1:]


def test_a_long_life_makes_up_for_losses_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [life[0] for life in lives(lived=1e4, count="7")] == ["7", "1"]
    monkeypatch.setenv("SWARM_RESTARTS", "nonsense")
    assert restarts() == 0


def test_what_one_life_expects_the_next_one_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWARM_COMPANY", raising=False)
    assert not company_expected()
    expect_company(True)
    assert company_expected()
