"""`swarm simulate`: from options to a scenario, and from its outcome to files, a summary and an exit status."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swarm.config import Config
from swarm.simulate.audited import audited
from swarm.simulate.display import display_for
from swarm.simulate.faults import FaultScript, load_faults
from swarm.simulate.fleet import SWARM
from swarm.simulate.keep import keep_checkpoint
from swarm.simulate.orchestrator import Simulation
from swarm.simulate.plot import plot
from swarm.simulate.report import Bits, build_report
from swarm.simulate.scenario import ROUNDS, Scenario, shorthands
from swarm.simulate.summary import summary
from swarm.simulate.workspace import Workspace, report_directory

BASELINE_PROGRESS_SECONDS = 5.0


def scenario_of(
    settings: Config,
    nodes: int,
    rounds: int | None,
    join_at: int | None = None,
    leave_at: int | None = None,
    kill_at: int | None = None,
    faults: Path | None = None,
) -> Scenario:
    """The scenario that the options ask for; the demo's join and leave if they ask for no fault. 0 means none.

    faults: a fault script; the options add to it. Raises BadFaults, ImpossibleScenario.
    """
    if faults is None and join_at is leave_at is kill_at is None:
        return Scenario.demo(nodes, ROUNDS if rounds is None else rounds, settings.run, settings.node)
    script = load_faults(faults) if faults else FaultScript()
    if rounds is None and script.chaos is None:
        rounds = ROUNDS
    added = shorthands(nodes, rounds, join_at or None, leave_at or None, kill_at or None)
    script = script.model_copy(update={"faults": (*script.faults, *added)})
    return Scenario(nodes, rounds, script, settings.run, settings.node)


def simulate(
    scenario: Scenario, report_path: Path, *, baseline: bool = False, keep: bool = False, command: Sequence[str] = SWARM
) -> int:
    """Run it, write report.json and loss.png, print a summary. Returns the exit status."""
    report_path = report_directory(report_path)
    workspace = Workspace()
    failed = True
    try:
        simulation = Simulation(scenario, workspace, display_for(sys.stdout), command)
        simulation.run()
        report = _report(simulation)
        audited(report, workspace.path)
        if baseline:
            report["baseline"] = _baseline(scenario, report["totals"]["tokens"])
        failed = bool(report["problems"])
        (report_path / "report.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
        plot(report, report_path / "loss.png")
        _say("", *summary(report), f"report              {report_path / 'report.json'}, {report_path / 'loss.png'}")
        if checkpoint := keep_checkpoint(workspace.path, report_path / "checkpoint"):
            _say(f'talk to it          swarm generate {checkpoint} --prompt "Return the "')
        return 1 if failed else 0
    except KeyboardInterrupt:
        failed = False  # nobody wants to look at what they have stopped
        raise
    finally:
        if keep or failed:
            _say(f"state, logs         {workspace.path}")
        else:
            workspace.remove()


def _report(simulation: Simulation) -> dict[str, Any]:
    from ops.codec import get_codec

    run = simulation.scenario.run
    codec = get_codec(run.codec)
    return build_report(
        simulation.scenario,
        simulation.board,
        simulation.done,
        simulation.problems,
        _parameters(run.model),
        Bits(codec.bits_per_value, codec.of_means.bits_per_value),
    )


def _baseline(scenario: Scenario, tokens: int) -> dict[str, float]:
    """Held-out losses of a lone node and of synchronous data parallel on as many tokens as the swarm has trained on."""
    from swarm.baseline import run_baseline

    _say("", f"baselines: {tokens:,} tokens by one node alone, then by data parallel of {scenario.nodes}")
    shown = 0.0

    def progress(name: str, step: int, steps: int, loss: float) -> None:
        nonlocal shown
        if time.monotonic() - shown > BASELINE_PROGRESS_SECONDS:
            shown = time.monotonic()
            _say(f"  {name}: step {step + 1} of {steps}, loss {loss:.3f}")

    threads = len(os.sched_getaffinity(0))
    baseline = run_baseline(scenario.run, total_tokens=tokens, nodes=scenario.nodes, threads=threads, progress=progress)
    return asdict(baseline)


def _parameters(model: str) -> int:
    """Values in the flat vector of that size."""
    from swarm.model.llama import parameter_count
    from swarm.model.sizes import model_config

    return parameter_count(model_config(model))


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
