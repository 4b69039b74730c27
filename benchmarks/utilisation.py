"""What share of their time nodes train, at the ratios of training to reduce that INTELLECT-1 reports.

Real nodes with a model of 10M parameters on emulated links; only the arithmetic of an inner step is replaced by sleep.
Rounds with little training tell how long a blocking round keeps a node from training here: reduce, agreement, outer
step, all that is to be loaded and counted. Then training is made as much longer as it was there: 38 minutes to 103, 382
and 469 s of all-reduce (arXiv:2412.01152). Each is run blocking, and with up to a quarter of the inner steps ahead. For
who waits, the ratios say 95.68, 85.65, 82.94 %. Young connections are slower, so the first rounds do not count.

    python benchmarks/utilisation.py
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.link_hosts import Hosts, Line, NoLinks, Way
from benchmarks.report import Report
from swarm.config import Config, NodeConfig, RunConfig
from swarm.events import Event, EventReader, Round, Started

NODES = 4
MBIT, RTT_MS = 75.0, 50.0
STEPS = 100
TRAINING_SECONDS = 38 * 60
REDUCES = {"all in the USA": (103, 95.7), "USA and Europe": (382, 85.6), "worldwide": (469, 83.0)}
"""Seconds of all-reduce, and the utilisation, %, that follows for who waits: the bar for a blocking round."""
OVERLAPPED = 99.0
ROUNDS, COUNTED = 7, (5, 6)
"""Training rounds of each run, and those that count, on all nodes."""
SHORT_SECONDS = 3.0
"""Of training, to find out how long a round takes besides."""
PATIENCE_SECONDS = 600.0


class Nodes:
    """The members of one run, each with its event file."""

    def __init__(self, hosts: Hosts, folder: Path, run: RunConfig, step_seconds: float) -> None:
        self.readers: list[EventReader] = []
        self.rounds: list[list[Round]] = [[] for _ in hosts.all]
        bootstrap: tuple[str, ...] = ()
        for index, host in enumerate(hosts.all):
            node = NodeConfig(
                host=host.address,
                state_dir=folder / str(index),
                bootstrap_peers=bootstrap,
                found=index == 0,
                threads=1,
                rounds=ROUNDS,
                evaluate_every=0,
                checkpoint_every=0,
                quiet=True,
            )
            host.tell(config=Config(run=run, node=node).model_dump_json(), step_seconds=step_seconds)
            self.readers.append(EventReader(node.events_path))
            if not bootstrap:
                bootstrap = self._started()

    def _started(self) -> tuple[str, ...]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for event in self._news(0):
                if isinstance(event, Started):
                    return event.bootstrap
            time.sleep(0.1)
        raise SystemExit("the first node does not start: see above")

    def _news(self, index: int) -> list[Event]:
        return [event for _, event in self.readers[index].new()]

    def ended(self) -> list[list[Round]]:
        """The rounds of each node, when all have been committed."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(not rounds or rounds[-1].round < ROUNDS for rounds in self.rounds):
            for index, rounds in enumerate(self.rounds):
                rounds += [event for event in self._news(index) if isinstance(event, Round)]
            if time.monotonic() > deadline:
                raise SystemExit(f"rounds of the nodes after {PATIENCE_SECONDS:.0f} s: {[len(r) for r in self.rounds]}")
            time.sleep(0.1)
        return self.rounds


def measured(training_seconds: float, ahead: int) -> list[list[Round]]:
    """The rounds of a swarm in which each trains for so long."""
    run = RunConfig(
        name="utilisation",
        model="10m",
        sequence_length=16,
        batch_size=1,
        inner_steps=STEPS,
        overlap_steps=ahead,
        founders=NODES,
    )
    with tempfile.TemporaryDirectory() as folder:
        lines = [Line(MBIT, MBIT)] * NODES
        with Hosts(Path(__file__).with_name("utilisation_node.py"), lines, Way(RTT_MS), "bbr") as hosts:
            return Nodes(hosts, Path(folder), run, training_seconds / STEPS).ended()


def counted_of(nodes: list[list[Round]]) -> list[Round]:
    return [rounds[counted] for rounds in nodes for counted in COUNTED]


def trained(rounds: list[Round], counted: int) -> float:
    """Seconds of training between the commits of the round before and of this one, on one node.

    Its steps ahead were taken before the first of them; in their place come those of the round after it.
    """
    event, after = rounds[counted], rounds[counted + 1]
    return event.train_seconds * (1 + (after.ahead_steps - event.ahead_steps) / event.inner_steps)


def utilisation(nodes: list[list[Round]]) -> float:
    """%, of all nodes."""
    training = sum(trained(rounds, counted) for rounds in nodes for counted in COUNTED)
    return 100 * training / sum(event.round_seconds for event in counted_of(nodes))


def waits(nodes: list[list[Round]]) -> float:
    """Seconds of a blocking round in which a node does not train."""
    return statistics.fmean(event.round_seconds - event.train_seconds for event in counted_of(nodes))


def compare(name: str, wait: float, report: Report) -> None:
    seconds, bar = REDUCES[name]
    training = wait * TRAINING_SECONDS / seconds
    report(f"{name}: training {training:.2f} s a round, {TRAINING_SECONDS} to {seconds} s there")
    for ahead, least in ((0, bar), (STEPS // 4, OVERLAPPED)):
        nodes = measured(training, ahead)
        events = counted_of(nodes)
        whole, steps_took, waited, steps = (
            statistics.median(float(getattr(event, field)) for event in events)
            for field in ("round_seconds", "train_seconds", "reduce_seconds", "ahead_steps")
        )
        report(
            f"  round {whole:.2f} s: inner steps {steps_took:.2f} s, {steps:.0f} of them ahead; reduce {waited:.2f} s"
        )
        report.bar(f"{'overlapped' if ahead else 'blocking'}, % of all time", utilisation(nodes), least, least=True)


def main() -> int:
    report = Report()
    began = time.monotonic()
    try:
        report(f"{NODES} nodes, links of {MBIT:g} Mbit/s and {RTT_MS:g} ms, {STEPS} inner steps a round")
        wait = waits(measured(SHORT_SECONDS, 0))
        report(f"a blocking round takes {wait:.2f} s here besides its inner steps\n")
        for name in REDUCES:
            compare(name, wait, report)
    except NoLinks as reason:
        report(f"skipped: no links can be emulated here: {reason}")
        return 0
    report(f"\n{time.monotonic() - began:.0f} s")
    Path(__file__).with_suffix(".log").write_text("\n".join(report.lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
