"""A whole simulation: the same seed gives the same events in any process, and what breaks a rule is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2p.protocol.participant import Participant
from swarm.simulate.virtual.run import Simulation
from swarm.simulate.virtual.settings import Settings

ROOT = Path(__file__).resolve().parents[4]
CHAOS = Settings(nodes=7, rounds=4, faults="chaos", seed=11)
HASH_OF_CHAOS = f"""
from swarm.simulate.virtual.run import Simulation
from swarm.simulate.virtual.settings import Settings
print(Simulation({CHAOS!r}).run().digest)
"""


def test_the_same_seed_gives_the_same_events_in_every_process() -> None:
    digests = set()
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        code = HASH_OF_CHAOS.replace("PieceSize(", "__import__('p2p.protocol.pieces', fromlist=['x']).PieceSize(")
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        digests.add(done.stdout.strip())
    digests.add(Simulation(CHAOS).run().digest)
    assert len(digests) == 1


def test_another_seed_gives_other_events() -> None:
    digests = {Simulation(Settings(nodes=4, rounds=2, seed=seed, links="lan")).run().digest for seed in range(3)}
    assert len(digests) == 3


def test_messages_as_bytes_make_no_difference() -> None:
    as_objects, as_bytes = (
        Simulation(Settings(nodes=5, rounds=3, faults="chaos", seed=8, encoded=encoded)).run()
        for encoded in (False, True)
    )
    assert as_objects.violation == as_bytes.violation == ""
    assert as_objects.digest == as_bytes.digest


def test_a_broken_rule_ends_the_run_with_its_story(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Participant, "on_reduced", lambda *_: [])
    result = Simulation(Settings(nodes=3, rounds=2, seed=1)).run()
    assert "no commit for" in result.violation
    told = "\n".join(result.story)
    assert "Round 0, by the logs of n0, n1 and n2." in told
    assert "No log here knows of its commit." in told


def test_whatever_a_core_raises_is_a_broken_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Participant, "on_commit", crash)
    result = Simulation(Settings(nodes=3, rounds=2, seed=1)).run()
    assert "ZeroDivisionError: a bug" in result.violation
    assert result.rounds == -1
