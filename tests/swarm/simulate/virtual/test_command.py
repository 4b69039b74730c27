"""`swarm simulate --virtual`: what it prints, its exit status, and clear refusals."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p2p.protocol.participant import Participant
from swarm.simulate.virtual import command
from swarm.simulate.virtual.command import BadSimulation, replay_command, seeds_of, settings_of, simulate

ROOT = Path(__file__).resolve().parents[4]


def run(nodes: int = 4, faults: str = "none", seed: int | None = None, seeds: str | None = None, jobs: int = 1) -> int:
    return simulate(nodes, 2, faults, "lan", seed, seeds, jobs)


def test_one_seed_ends_with_a_summary_and_the_hash_of_its_events(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(seed=3, faults="chaos") == 0
    first = capsys.readouterr().out
    assert run(seed=3, faults="chaos") == 0
    second = capsys.readouterr().out
    assert "seeds               1, 0 with a broken rule" in first
    hashes = [line for out in (first, second) for line in out.splitlines() if line.startswith("event-log hash")]
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("jobs", [1, 2])
def test_many_seeds_end_with_one_summary(jobs: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(seeds="0:6", jobs=jobs, faults="churn") == 0
    assert "seeds               6, 0 with a broken rule" in capsys.readouterr().out


def test_a_broken_rule_gives_status_1_and_the_command_that_shows_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Participant, "on_reduced", lambda *_: [])
    assert run(seeds="5:7") == 1
    out = capsys.readouterr().out
    again = "swarm simulate --virtual --nodes 4 --rounds 2 --faults none --seed 5 --links lan"
    assert again in out
    assert "seeds               2, 2 with a broken rule" in out
    assert run(seed=5) == 1
    out = capsys.readouterr().out
    assert again in out
    assert "BROKEN: no commit for" in out
    assert "What was done to the swarm" in out


def test_the_command_gives_the_same_settings_again() -> None:
    settings = settings_of(6, 3, "chaos", None, 9)
    words = replay_command(settings).split()
    given = dict(zip(words[3::2], words[4::2], strict=True))
    nodes, rounds, seed = (int(given[name]) for name in ("--nodes", "--rounds", "--seed"))
    assert settings_of(nodes, rounds, given["--faults"], given.get("--links"), seed) == settings


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nodes": 1}, "--nodes 1"),
        ({"rounds": 0}, "--rounds 0"),
        ({"faults": "war"}, "none, churn, partitions, chaos"),
        ({"links": "string"}, "lan, wan, mixed"),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_the_remedy(changes: dict[str, object], reason: str) -> None:
    options = {"nodes": 4, "rounds": 2, "faults": "none", "links": None, "seed": 0} | changes
    with pytest.raises(BadSimulation, match=reason):
        settings_of(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["5", "5:5", "a:b", "7:3", ":4"])
def test_seeds_are_written_as_a_range(text: str) -> None:
    with pytest.raises(BadSimulation, match="write A:B"):
        seeds_of(text)


def test_one_seed_or_many() -> None:
    assert list(seeds_of("2:5")) == [2, 3, 4]
    with pytest.raises(BadSimulation, match="one of them"):
        run(seed=1, seeds="0:3")


def test_progress_is_shown_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "PROGRESS_SECONDS", 0.0)
    assert run(seeds="0:3") == 0
    assert "1 of 3 seeds, 0 broken" in capsys.readouterr().err
    assert run(seed=2) == 0
    assert "of 2, virtual" in capsys.readouterr().err


def test_ctrl_c_ends_all_processes_without_a_traceback() -> None:
    options = ["--nodes", "8", "--rounds", "50", "--faults", "chaos", "--seeds", "0:100000", "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "swarm", "simulate", "--virtual", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    started = [int(pid) for pid in children.read_text().split()]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors.decode()
    while [pid for pid in started if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.05)
