"""`swarm simulate` with real nodes: what it reports is true, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.simulate.process import processes_of

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(400)]

QUICK = ("--model", "demo", "--inner-steps", "4", "--batch-size", "2")


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    (folder / "tmp").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "swarm", "simulate", "--report", str(folder / "report"), *QUICK, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(folder / "tmp")},
    )


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_swarm_trains_through_a_leave_and_a_kill(tmp_path: Path) -> None:
    with start(tmp_path, "--nodes", "4", "--rounds", "6", "--leave-at", "2", "--kill-at", "3") as simulation:
        output, _ = simulation.communicate()
    assert simulation.returncode == 0, output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["problems"] == []
    assert [(fault["kind"], fault["node"]) for fault in report["faults"]] == [("leave", "node3"), ("kill", "node1")]
    by_round: dict[int, list[dict[str, str]]] = {}
    for row in report["rounds"]:
        by_round.setdefault(row["round"], []).append(row)
    assert set(by_round) >= set(range(1, 7))
    for rows in by_round.values():
        for field in ("record", "theta_digest", "momentum_digest"):
            assert len({row[field] for row in rows}) == 1
    assert {row["node"] for row in by_round[6]} == {"node0", "node2"}
    totals = report["totals"]
    assert totals["held_out_loss_last"] < totals["held_out_loss_first"] - 0.5
    assert 0 < totals["utilisation"] <= 1
    assert totals["expected_bytes_per_param"] <= totals["bytes_per_param_per_round"]
    assert (tmp_path / "report" / "loss.png").stat().st_size > 10_000
    assert list((tmp_path / "tmp").glob("swarm-*")) == []
    assert processes_of(tmp_path) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_simulation_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    with start(tmp_path, "--nodes", "2", "--rounds", "100000") as simulation:
        assert simulation.stdout is not None
        for line in simulation.stdout:
            if "round 2 committed" in line:
                break
        simulation.send_signal(number)
        simulation.stdout.read()
    wait_until(lambda: processes_of(tmp_path) == {})
    sockets = [path for path in (tmp_path / "tmp").rglob("*") if path.is_socket()]
    assert sockets == []
    if number == signal.SIGINT:
        assert simulation.returncode == 130
        assert list((tmp_path / "tmp").glob("swarm-*")) == []
