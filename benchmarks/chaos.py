"""Minutes of chaos on real nodes, and what must hold all the same.

A bootstrap and up to 8 nodes on this machine; every 2 to 5 s one more starts (new, or on its old state directory), or
one is killed or frozen, the coordinator and the bootstrap among them. At the end:

- every round left the same record, theta and momentum on all who committed it, in all lives of all nodes
- no time without a new round was longer than 30 s
- `swarm audit` proves the records of all nodes: one history, each sample once
- whoever is left commits together once more; no process and no shared memory stays behind

    python benchmarks/chaos.py                        30 minutes; also written to benchmarks/chaos.log
    python benchmarks/chaos.py --minutes 3 --seed 7 --clock 300
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from swarm.audit import prove
from swarm.config import NodeConfig, RunConfig
from swarm.simulate.board import Board
from swarm.simulate.faults import Chaos, FaultScript
from swarm.simulate.orchestrator import Simulation
from swarm.simulate.report import check, faults_of
from swarm.simulate.scenario import Scenario
from swarm.simulate.workspace import Workspace
from swarm.state_dir import find

BAR_SECONDS = 30.0
# Eight nodes share this machine: light rounds, so that what is measured is the protocol and not the queue for a core.
RUN = RunConfig(name="chaos", model="demo", inner_steps=4, batch_size=1, sequence_length=64, warmup_steps=2)
NODE = NodeConfig(evaluate_every=0)
TOLD_EVERY_SECONDS = 60.0
MINUTES = 30.0
LOG = Path(__file__).with_suffix(".log")


class Said:
    """Prints, and keeps what a full run prints."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("w") if path else None

    def __call__(self, line: str) -> None:
        print(line, flush=True)
        if self._file:
            print(line, file=self._file, flush=True)


class Minutes:
    """Stands in for the table: a line a minute."""

    def __init__(self, say: Said) -> None:
        self._say = say
        self._next = 0.0
        self._commits = 0

    def update(self, board: Board) -> None:
        if board.seconds() < self._next:
            return
        self._next = board.seconds() + TOLD_EVERY_SECONDS
        fresh = board.stalls[max(0, self._commits - 1) :]
        self._commits = len(board.commits)
        states = Counter(view.state for view in board.nodes.values())
        alive = {state: count for state, count in states.items() if state not in ("killed", "left", "died")}
        shown = ", ".join(f"{count} {state}" for state, count in sorted(alive.items()))
        longest = f"{max(fresh):4.1f} s" if fresh else "-"
        load = os.getloadavg()[0]
        self._say(
            f"{board.seconds():7.1f} s  load {load:4.1f}  round {board.committed:4}, longest wait {longest}; {shown}"
        )

    def close(self) -> None:
        """Nothing to put back."""


def main() -> int:
    options = parse()
    say = Said(LOG if options.minutes >= MINUTES else None)
    chaos = Chaos(
        seconds=options.minutes * 60,
        every=(2.0, 5.0),
        start=0.6,
        kill=options.kill,
        freeze=0.4 - options.kill,
        nodes=options.nodes,
        coordinator=0.25,
        bootstrap=0.1,
        clock=options.clock,
        seed=options.seed,
    )
    scenario = Scenario(min(4, options.nodes), None, FaultScript(chaos=chaos), RUN, NODE)
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    say(f"chaos for {options.minutes:g} minutes, seed {options.seed}, {options.nodes} nodes at most, {cores} cores")
    say(f"load of this machine before: {load:.1f}\n")
    memory = set(os.listdir("/dev/shm"))
    workspace = Workspace()
    simulation = Simulation(scenario, workspace, Minutes(say))
    began = time.monotonic()
    simulation.run()
    say(f"\nended after {time.monotonic() - began:.0f} s\n")
    left = sorted(abandoned(set(os.listdir("/dev/shm")) - memory))  # at once: what comes later is not of our nodes
    bars = report(simulation, workspace, say)
    bars["nothing stays behind"] = simulation.problems + [f"shared memory stayed behind: {name}" for name in left]
    say("")
    for bar, problems in bars.items():
        say(f"{bar}: {'MISSED' if problems else 'met'}")
        for problem in problems:
            say(f"  VIOLATION  {problem}")
    met = not any(bars.values())
    if met and not options.keep:
        workspace.remove()
    else:
        print(f"files: {workspace.path}")
    return 0 if met else 1


def abandoned(names: set[str]) -> set[str]:
    """Of these names of shared memory, those that no living process has mapped: others may be somebody else's."""
    for path in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):  # it ended while we looked
            maps = path.read_text()
            names = {name for name in names if f"/dev/shm/{name}" not in maps}
    return names


def report(simulation: Simulation, workspace: Workspace, say: Said) -> dict[str, list[str]]:
    """Print what happened; returns for each bar what should not have."""
    board, faults = simulation.board, faults_of(simulation.done)
    say(
        "faults     " + ", ".join(f"{count} {kind}" for kind, count in Counter(f["kind"] for f in faults).most_common())
    )
    hit = Counter(fault["node"] for fault in faults)
    say(f"           {hit['bootstrap']} times the bootstrap, {len(board.nodes)} nodes in all")
    for fault in faults:
        lasting = f" for {fault['lasting']} s" if "lasting" in fault else ""
        say(f"{fault['seconds']:7.1f} s  round {fault['after_round']:4}  {fault['kind']} {fault['node']}{lasting}")
    told = [event for view in board.nodes.values() for event in view.rounds]
    attempts = Counter(event.attempt for event in {event.round: event for event in told}.values())
    stalls = sorted(board.stalls)
    say(f"\nrounds     {len(board.commits)}, told {len(told)} times")
    say("attempts   " + ", ".join(f"{number + 1}: {count} rounds" for number, count in sorted(attempts.items())))
    if stalls:
        half, most = stalls[len(stalls) // 2], stalls[-1]
        over = sum(seconds > 10 for seconds in stalls)
        say(f"waits      median {half:.1f} s, longest {most:.1f} s, {over} times more than 10 s without a new round")
    proof = prove(find([workspace.path], "records"))
    say("\n".join(proof.lines()))
    longest = f"{stalls[-1]:.1f} s" if stalls else "no rounds"
    return {
        "every round equal on all who committed it, none lost": check(simulation.scenario, board, faults),
        f"no time without a new round longer than {BAR_SECONDS:.0f} s (longest: {longest})": [
            f"no new round for {seconds:.1f} s" for seconds in stalls if seconds > BAR_SECONDS
        ],
        "swarm audit clean": [
            *([str(proof.violation)] if proof.violation else []),
            *(f"histories part: {fork}" for fork in proof.forks),
        ],
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--nodes", type=int, default=8, help="at most, at a time")
    parser.add_argument("--kill", type=float, default=0.25, help="of the 0.4 that are no starts; the rest are freezes")
    parser.add_argument("--clock", type=float, default=0.0, help="wall clocks are wrong by up to so many seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the nodes' files")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
