"""The whole simulation around fake nodes: real processes, real files, real signals, no training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from swarm.config import Config, NodeConfig
from swarm.config_load import load_config
from swarm.simulate import command as simulate_command
from swarm.simulate.command import scenario_of, simulate
from swarm.simulate.faults import Chaos, Fault, FaultScript
from swarm.simulate.fleet import SimulationFailed
from swarm.simulate.ports import FIRST, LAST
from swarm.simulate.scenario import Scenario, shorthands

pytestmark = pytest.mark.alone
FAKE = Path(__file__).with_name("fake_swarm.py")
SCENARIO = Scenario(nodes=3, rounds=12)


def script(*faults: Fault) -> FaultScript:
    return FaultScript(faults=faults)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fake nodes' shared folder; temporary directories go below tmp_path too, where we can count them."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path / "shared"


Run = Callable[..., "tuple[int, dict]"]  # type: ignore[type-arg]


@pytest.fixture
def run(shared: Path, tmp_path: Path) -> Run:
    def go(scenario: Scenario = SCENARIO, trouble: dict[str, object] | None = None, **options: bool):  # type: ignore[no-untyped-def]
        (shared / "trouble.json").write_text(json.dumps(trouble or {}))
        status = simulate(scenario, tmp_path / "report", command=(sys.executable, str(FAKE), str(shared)), **options)
        assert strays(shared) == []
        return status, json.loads((tmp_path / "report" / "report.json").read_text())

    return go


def test_a_clean_run(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, report = run()
    assert (status, report["problems"]) == (0, [])
    assert {row["round"] for row in report["rounds"]} == set(range(1, 13))
    assert {row["node"] for row in report["rounds"]} == {"node0", "node1", "node2"}
    assert report["totals"]["held_out_loss_first"] == 5.5
    assert (tmp_path / "report" / "loss.png").exists()
    assert list((tmp_path / "tmp").glob("swarm-*")) == []
    out = capsys.readouterr().out
    assert "rounds committed    12 of 12" in out
    assert "identical on all members" in out


def test_join_leave_and_kill_happen_and_are_reported(run: Run) -> None:
    faults = shorthands(4, 30, join_at=2, leave_at=4, kill_at=6)
    status, report = run(replace(SCENARIO, nodes=4, rounds=30, script=script(*faults)))
    assert (status, report["problems"]) == (0, [])
    assert [(f["kind"], f["node"], f["after_round"]) for f in report["faults"]] == [
        ("join", "node4", 2),
        ("leave", "node3", 4),
        ("kill", "node1", 6),
    ]
    last = {row["node"]: row["round"] for row in report["rounds"]}
    assert last["node0"] == last["node4"] == 30
    assert last["node3"] < 30
    assert last["node1"] < 30


def test_a_newcomer_that_comes_for_the_last_round_has_not_died(run: Run) -> None:
    _, report = run(replace(SCENARIO, script=script(Fault(kind="join", after_round=11))))
    assert report["problems"] == ["node3 joined after round 11 and never trained in a round"]


def test_a_frozen_node_thaws_and_a_killed_one_comes_back_to_its_old_files(run: Run) -> None:
    freeze = Fault(kind="freeze", node="node1", after_round=2, seconds=0.5)
    restart = Fault(kind="restart", node="node2", after_round=3, seconds=0.3)
    status, report = run(replace(SCENARIO, rounds=40, script=script(freeze, restart)))
    assert (status, report["problems"]) == (0, [])
    assert [(f["kind"], f["node"], f["lasting"]) for f in report["faults"]] == [
        ("freeze", "node1", 0.5),
        ("restart", "node2", 0.3),
    ]
    rounds = [row["round"] for row in report["rounds"] if row["node"] == "node2"]
    assert rounds[-1] == 40
    assert 4 < len(rounds) < 40  # both lives, and a gap between them


def test_roles_are_looked_up_when_the_fault_is_due(run: Run) -> None:
    kill = Fault(kind="kill", node="coordinator", after_round=3)
    bootstrap = Fault(kind="restart", node="bootstrap", at=0.1)
    status, report = run(replace(SCENARIO, script=script(bootstrap, kill)))
    assert (status, report["problems"]) == (0, [])
    assert [(f["kind"], f["node"]) for f in report["faults"]] == [("restart", "bootstrap"), ("kill", "node0")]


def test_a_fault_waits_for_somebody_in_its_role(run: Run) -> None:
    kill = Fault(kind="kill", node="newcomer", after_round=1)
    status, report = run(replace(SCENARIO, script=script(kill)))
    assert status == 1
    assert report["problems"] == ["the kill of newcomer after round 1 never happened: there was no newcomer"]


def test_chaos_ends_by_the_clock_and_all_who_are_left_leave(run: Run) -> None:
    chaos = Chaos(seconds=4.0, every=(0.2, 0.4), nodes=5, freeze_seconds=(0.1, 0.5), bootstrap=0.2, seed=3)
    status, report = run(replace(SCENARIO, rounds=None, script=FaultScript(chaos=chaos)))
    assert (status, report["problems"]) == (0, [])
    assert len(report["faults"]) >= 8
    assert len({fault["kind"] for fault in report["faults"]}) >= 3
    assert report["scenario"]["rounds"] is None


def test_members_that_disagree_fail_the_run_and_keep_its_files(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, report = run(trouble={"node1": {"kind": "disagrees", "round": 2}})
    assert status == 1
    assert any("round 2: theta_digest differs" in problem for problem in report["problems"])
    (kept,) = (tmp_path / "tmp").glob("swarm-*")
    assert str(kept) in capsys.readouterr().out
    assert (kept / "node1" / "events.jsonl").exists()


def test_a_node_that_dies_is_named_with_its_last_words(run: Run) -> None:
    status, report = run(trouble={"node2": {"kind": "dies", "round": 3}})
    assert status == 1
    assert any(p.startswith("node2 died after round 2 (exit status 1): node: something is") for p in report["problems"])


def test_a_founder_that_dies_at_the_start_ends_the_simulation_at_once(run: Run) -> None:
    began = time.monotonic()
    status, report = run(trouble={f"node{index}": {"kind": "dies", "round": 1} for index in range(3)})
    assert status == 1
    assert any("died after round -1 (exit status 1)" in problem for problem in report["problems"])
    assert time.monotonic() - began < 60


def test_a_swarm_that_hangs_is_given_up(run: Run) -> None:
    trouble = {f"node{index}": {"kind": "silent", "round": 2} for index in range(3)}
    status, report = run(replace(SCENARIO, stall_seconds=1.0), trouble)
    assert status == 1
    assert any(
        "no node got anything done for 1 s; still there: node0, node1" in problem for problem in report["problems"]
    )
    assert any("round 2 was lost" in problem for problem in report["problems"])


def test_a_node_that_does_not_leave_when_asked_is_killed_and_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.simulate.fleet.LEAVE_SECONDS", 0.5)
    trouble = {"node2": {"kind": "stubborn", "round": 3}}
    leave = Fault(kind="leave", node="node2", after_round=4)
    status, report = run(replace(SCENARIO, rounds=6, script=script(leave)), trouble)
    assert status == 1
    assert report["problems"] == ["node2 was asked to leave and was still there 0 s later"]


def test_a_fault_whose_round_never_comes_is_a_problem(run: Run) -> None:
    trouble = {f"node{index}": {"kind": "dies", "round": 3} for index in range(3)}
    kill = Fault(kind="kill", node="node1", after_round=8)
    _, report = run(replace(SCENARIO, script=script(kill)), trouble)
    assert any(
        "the kill of node1 after round 8 never happened: round 8 was not reached" in problem
        for problem in report["problems"]
    )


def test_keep_keeps_the_files(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _ = run(keep=True)
    (kept,) = (tmp_path / "tmp").glob("swarm-*")
    assert status == 0
    assert f"state, logs         {kept}" in capsys.readouterr().out


def test_nodes_share_the_settings_that_are_not_their_own(run: Run, tmp_path: Path) -> None:
    node = NodeConfig(evaluate_every=7, threads=3, name="mine", port=7, key_file=tmp_path / "key")
    run(replace(SCENARIO, rounds=2, node=node), keep=True)
    (kept,) = (tmp_path / "tmp").glob("swarm-*")
    written = load_config(kept / "node1" / "swarm.toml").node
    assert (written.evaluate_every, written.threads) == (7, 3)
    assert (written.name, written.key_file) == ("node1", None)
    assert FIRST <= written.port < LAST


def test_a_bootstrap_that_does_not_start_is_one_clear_error(run: Run, shared: Path) -> None:
    (shared / "no-bootstrap").write_text("")
    with pytest.raises(SimulationFailed, match="the bootstrap process ended: no luck today"):
        run()


def test_the_baseline_is_in_the_report(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"alone": 3.0, "alone_all_tokens": 2.0, "data_parallel": 1.5}
    monkeypatch.setattr(simulate_command, "_baseline", lambda scenario, tokens: losses)
    _, report = run(baseline=True)
    assert report["baseline"] == losses


def test_no_fault_asked_for_means_the_demo() -> None:
    assert scenario_of(Config(), 4, None) == Scenario.demo(4, 10, Config().run, Config().node)
    assert scenario_of(Config(), 4, 10, join_at=0).script.faults == ()
    assert [fault.kind for fault in scenario_of(Config(), 4, 10, kill_at=5).script.faults] == ["kill"]


def test_a_fault_script_and_the_options_add_up(tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text('[[fault]]\nafter_round = 2\nkind = "freeze"\nnode = "coordinator"\nseconds = 3\n')
    faults = scenario_of(Config(), 4, None, kill_at=5, faults=file).script.faults
    assert [(fault.kind, fault.node, fault.after_round) for fault in faults] == [
        ("freeze", "coordinator", 2),
        ("kill", "node1", 5),
    ]
    file.write_text("[chaos]\nseconds = 60\n")
    assert scenario_of(Config(), 4, None, faults=file).rounds is None


def strays(shared: Path) -> list[int]:
    """Processes of this test that are still there: they have its folder among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended while we looked
            if str(FAKE).encode() in path.read_bytes() and str(shared).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


SCRIPT = """
import sys
from pathlib import Path
from swarm.simulate.command import simulate
from swarm.simulate.scenario import Scenario
command = (sys.executable, sys.argv[1], sys.argv[2])
sys.exit(simulate(Scenario(nodes=2, rounds=10000), Path(sys.argv[3]), command=command))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stopped_simulation_leaves_no_process(shared: Path, tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(FAKE), str(shared), str(tmp_path / "report")],
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: (shared / "clock").exists())
    process.send_signal(number)
    process.wait(20)
    wait_until(lambda: not strays(shared))
    if number != signal.SIGKILL:
        assert list((tmp_path / "tmp").glob("swarm-*")) == []


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
