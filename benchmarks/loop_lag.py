"""How late the event loop of a real node is while it reduces 100M values and takes a training step beside that.

Two nodes with the model of 100M parameters on this machine train ahead (`overlap_steps`), so that each reduce, outer
step and digest go on beside inner steps in the same process. Every node notes each delay of its loop above 1 ms. A
process whose loop does nothing else tells what of that is the machine's doing.

    python benchmarks/loop_lag.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.report import Report
from swarm.config import Config, NodeConfig, RunConfig
from swarm.events import EventReader, Reducing, Round, Started

WORKER = Path(__file__).with_name("loop_lag_node.py")
HOST = "127.0.0.1"
NODES, ROUNDS = 2, 16
BAR_MS = 50.0
PATIENCE_SECONDS = 300.0
RUN = RunConfig(
    name="loop lag",
    model="100m",
    sequence_length=32,
    batch_size=1,
    inner_steps=4,
    overlap_steps=4,
    founders=NODES,
)


@dataclass
class Stretch:
    """From a plan to the commit of its round, by the clock of this machine."""

    began: float
    ended: float
    ahead: int


class Noted:
    """A process, with its file of delays."""

    def __init__(self, folder: Path, name: str, config: Config | None) -> None:
        self.config, self.path = config, folder / f"{name}.delays"
        command = [sys.executable, str(WORKER), config.model_dump_json() if config else "", str(self.path)]
        self.process = subprocess.Popen(command)

    def delays(self) -> list[tuple[float, float]]:
        """(when it was over, seconds) of each."""
        lines = self.path.read_text().splitlines()
        return [(float(when), float(late)) for when, late in map(str.split, lines)]

    def bootstrap(self) -> tuple[str, ...]:
        return next(event.bootstrap for _, event in self._events() if isinstance(event, Started))

    def stretches(self) -> list[Stretch]:
        """Reduces of rounds that somebody trained for, the first one apart: kernels are loaded in it."""
        found: list[Stretch] = []
        began = 0.0
        for at, event in self._events():
            if isinstance(event, Reducing):
                began = at
            elif isinstance(event, Round) and event.round > 1:
                found.append(Stretch(began, at, event.ahead_steps))
        return found

    def _events(self) -> list[tuple[float, object]]:
        assert self.config is not None
        return list(EventReader(self.config.node.events_path).new())


def start(folder: Path) -> list[Noted]:
    nodes: list[Noted] = []
    bootstrap: tuple[str, ...] = ()
    for index in range(NODES):
        node = NodeConfig(
            host=HOST,
            port=0,
            dht_port=0,
            state_dir=folder / str(index),
            bootstrap_peers=bootstrap,
            found=index == 0,
            threads=max(1, (os.cpu_count() or 1) // NODES),
            rounds=ROUNDS,
            evaluate_every=0,
            checkpoint_every=0,
            quiet=True,
        )
        nodes.append(Noted(folder, str(index), Config(run=RUN, node=node)))
        if index == 0:
            bootstrap = wait_for(nodes[0])
    return nodes


def wait_for(node: Noted) -> tuple[str, ...]:
    """Its address, when it listens."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and node.process.poll() is None:
        try:
            return node.bootstrap()
        except (StopIteration, FileNotFoundError):
            time.sleep(0.1)
    raise SystemExit("the first node does not start: see above")


def judge(nodes: list[Noted], idle: Noted, report: Report) -> None:
    within, elsewhere = list[float](), list[float]()
    for number, node in enumerate(nodes):
        stretches, delays = node.stretches(), node.delays()
        inside = sorted(late for when, late in delays if any(s.began <= when <= s.ended for s in stretches))
        seconds = sum(s.ended - s.began for s in stretches)
        steps = sum(s.ahead for s in stretches)
        report(
            f"node {number}: {len(stretches)} reduces of {seconds / len(stretches):.2f} s beside {steps} steps ahead; "
            f"delays above 1 ms: {len(inside)}, worst {shown(inside)}"
        )
        within += inside
        elsewhere += [late for when, late in idle.delays() if any(s.began <= when <= s.ended for s in stretches)]
    report(f"an idle loop on this machine in the same time: worst {shown(sorted(elsewhere))}")
    report.bar("longest time that the loop stood still, ms", 1000 * max(within, default=0.0), BAR_MS)


def shown(delays: list[float]) -> str:
    return ", ".join(f"{1000 * late:.1f}" for late in delays[:-6:-1]) + " ms"


def main() -> int:
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        idle, nodes = Noted(folder, "idle", None), list[Noted]()
        try:
            nodes = start(folder)
            for node in nodes:
                node.process.wait(PATIENCE_SECONDS)
        finally:
            for process in (idle.process, *(node.process for node in nodes)):
                process.kill()
                process.wait()
        report(f"{NODES} nodes, model {RUN.model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        judge(nodes, idle, report)
    Path(__file__).with_suffix(".log").write_text("\n".join(report.lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
