"""Rounds without end in sight: what nodes hold must not grow.

First eight virtual nodes for 2,000 rounds (soak_virtual.py): the memory of their cores, their links, and the timers
that are set. Then four real nodes for 200 rounds; one of them is killed and started again every 25 rounds, so that
links, dials, donors and newcomers come and go. Of the others, and of their DHT processes and daemons, memory and
descriptors are read every few seconds from /proc while all four are linked with each other, so that like is compared
with like, and tasks and threads from the nodes' own metrics. The first third is for warming up. Growth is the slope of
a straight line through the rest, and of the lows of each tenth of it where a number swings.

    python benchmarks/soak.py         20 minutes or more; also written to benchmarks/soak.log
    python benchmarks/soak.py --rounds 20 --virtual-rounds 100
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.soak_virtual import soak
from swarm.config import NodeConfig, RunConfig
from swarm.simulate.board import Board
from swarm.simulate.faults import Fault, FaultScript
from swarm.simulate.orchestrator import Simulation
from swarm.simulate.process import children_of
from swarm.simulate.report import check, faults_of
from swarm.simulate.scenario import Scenario
from swarm.simulate.workspace import Workspace

RUN = RunConfig(name="soak", model="demo", inner_steps=16, batch_size=1, sequence_length=64, warmup_steps=2)
NODE = NodeConfig(evaluate_every=20)
NODES, ROUNDS, RESTART_EVERY = 4, 200, 25
VIRTUAL_ROUNDS = 2000
LAST_ROUNDS = 50
"""Without a restart: who comes back when all others have finished would go on alone, from its checkpoint."""
SAMPLE_SECONDS = 0.5
LOG = Path(__file__).with_suffix(".log")
PROCESSES = ("node", "DHT", "daemon")
# Allowed growth over 100 rounds, and what must have been seen at least. Allocators and caches move by a few MB; a leak
# of one buffer a round would be more.
ALLOWED = {"memory MB": 5.0, "descriptors": 1.0, "threads": 0.5, "tasks": 1.0}
# In virtual time nothing but the cores is measured, to the byte: 20 bytes a round would be one more number.
ALLOWED |= {"core kB": 2.0, "links": 0.1, "timers": 0.5}

Series = dict[tuple[str, str, str], list[tuple[float, float]]]
"""(node, process, what) -> (round, number) in the order of time."""


class Sampler:
    """Stands in for the table: looks into /proc now and then."""

    def __init__(self) -> None:
        self.simulation: Simulation | None = None
        self.series: Series = defaultdict(list)
        self._next = self._told = 0.0

    def update(self, board: Board) -> None:
        assert self.simulation is not None
        ending = board.rounds is not None and board.committed >= board.rounds
        complete = all(len(view.peers) == NODES - 1 for view in board.nodes.values())
        if time.monotonic() < self._next or board.committed < 1 or ending or not complete:
            return
        self._next = time.monotonic() + SAMPLE_SECONDS
        for name, pid in self.simulation.pids().items():
            if name in board.nodes:
                for process, number in zip(PROCESSES, tree(pid), strict=False):
                    with suppress(OSError):  # it ended while we looked
                        self._sample(board.committed, name, process, number)
        if time.monotonic() - self._told > 60:
            self._told = time.monotonic()
            print(f"{board.seconds():7.1f} s  round {board.committed}", flush=True)

    def _sample(self, round: int, name: str, process: str, pid: int) -> None:
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.series[name, process, "memory MB"].append((round, resident / 1e6))
        self.series[name, process, "descriptors"].append((round, len(os.listdir(f"/proc/{pid}/fd"))))

    def close(self) -> None:
        """Nothing to put back."""


def tree(pid: int) -> list[int]:
    """A node, its DHT process, and that one's daemon."""
    chain = [pid]
    while children := children_of(chain[-1]):
        chain.append(min(children))
    return chain


def main() -> int:
    options = parse()
    load = os.getloadavg()[0]
    told = [f"{len(os.sched_getaffinity(0))} cores, load {load:.1f} at the beginning", ""]
    problems = list[str]()
    if options.virtual_rounds:
        problems += say(told, f"{options.virtual_rounds} virtual rounds", *virtual_rounds(options.virtual_rounds))
    if options.rounds:
        problems += say(told, f"{options.rounds} real rounds", *real_rounds(options.rounds))
    say(told, "flat" if not problems else f"{len(problems)} problems", [], [])
    if options.rounds >= ROUNDS and options.virtual_rounds >= VIRTUAL_ROUNDS:
        LOG.write_text("\n".join(told))
    return 1 if problems else 0


def say(told: list[str], title: str, lines: list[str], problems: list[str]) -> list[str]:
    """Print a part, and keep it; returns its problems."""
    part = [title, *lines, *(f"PROBLEM  {problem}" for problem in problems), ""]
    print("\n".join(part), flush=True)
    told += part
    return problems


def virtual_rounds(rounds: int) -> tuple[list[str], list[str]]:
    """What there is to say of them, and the problems."""
    series: Series = defaultdict(list)
    began = time.process_time()
    broken = soak(rounds, lambda name, what, round, number: series[name, "virtual", what].append((round, number)))
    lines, problems = judge(series)
    lines.append(f"{time.process_time() - began:.0f} s of CPU")
    return lines, problems + ([broken] if broken else [])


def real_rounds(rounds: int) -> tuple[list[str], list[str]]:
    """What there is to say of them, and the problems."""
    restarted = f"node{NODES - 1}"
    faults = tuple(
        Fault(kind="restart", node=restarted, after_round=number)
        for number in range(RESTART_EVERY, rounds - LAST_ROUNDS, RESTART_EVERY)
    )
    scenario = Scenario(NODES, rounds, FaultScript(faults=faults), RUN, NODE)
    workspace, sampler = Workspace(), Sampler()
    sampler.simulation = simulation = Simulation(scenario, workspace, sampler)
    simulation.run()
    for name, view in simulation.board.nodes.items():
        for event in view.rounds:
            if len(event.members) < NODES:
                continue
            sampler.series[name, "node", "tasks"].append((event.round, event.tasks))
            sampler.series[name, "node", "threads"].append((event.round, event.threads))
    lines, problems = judge({key: values for key, values in sampler.series.items() if key[0] != restarted})
    problems += simulation.problems + check(scenario, simulation.board, faults_of(simulation.done))
    seconds = simulation.board.seconds()
    lines.append(f"{NODES} nodes, {seconds:.0f} s; {restarted} restarted {len(faults)} times")
    if problems:
        lines.append(f"files: {workspace.path}")
    else:
        workspace.remove()
    return lines, problems


def judge(series: Series) -> tuple[list[str], list[str]]:
    """A table, and what grows."""
    lines = [f"{'node':7} {'process':8} {'what':12} {'samples':>7} {'median':>8} {'last':>8} {'per 100 rounds':>15}"]
    problems = []
    for (name, process, what), points in sorted(series.items()):
        settled = points[len(points) // 3 :]
        growth = growth_of(settled)
        median = float(np.median([value for _, value in settled]))
        lines.append(
            f"{name:7} {process:8} {what:12} {len(settled):7} {median:8.1f} {settled[-1][1]:8.1f} {growth:+15.2f}"
        )
        seen = growth * (settled[-1][0] - settled[0][0]) / 100
        if min(growth, seen) > ALLOWED[what]:
            problems.append(f"{what} of the {process} of {name} grows by {growth:.2f} in 100 rounds")
    return lines, problems


def growth_of(points: Sequence[tuple[float, float]]) -> float:
    """Per 100 rounds: the smaller of the slopes through all points and through the lows of each tenth."""
    rounds_N, values_N = np.array(points).T
    tenths = [part for part in np.array_split(np.arange(len(points)), 10) if part.size]
    lows = [part[np.argmin(values_N[part])] for part in tenths]
    slopes = [np.polyfit(rounds_N[chosen], values_N[chosen], 1)[0] for chosen in (slice(None), lows)]
    return 100.0 * float(min(slopes))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of real nodes; 0: none")
    parser.add_argument("--virtual-rounds", type=int, default=VIRTUAL_ROUNDS, help="0: none")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
