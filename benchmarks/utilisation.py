"""What share of their time nodes train, at the ratios of training to reduce that INTELLECT-1 reports.

Real nodes with a model of 5M parameters on emulated links; only the arithmetic of an inner step is replaced by sleep.
Training is as much longer than an all-reduce as it was there: 38 minutes to 103, 382 and 469 s (arXiv:2412.01152). The
all-reduce is what they had, a ring of int8 codes over gloo, timed on the same links first (benchmarks/ring_node.py).
Who trains and waits for that alone does so for 95.68, 85.65, 82.94 % of the time; here a node waits for all that a
round takes: reduce, agreement, outer step, all that is to be loaded and counted. Each ratio is run blocking, and with
up to a quarter of the inner steps ahead. Young connections are slower, so the first rounds and rings do not count.

Links and model are so small that a value takes 0.4 us of reduce. There it took 0.01 to 0.05 us, for 10B values; but
what a node does once a round for each value (load, check, store) is not done by four nodes on two cores there.

    python benchmarks/utilisation.py
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.link_hosts import Hosts, Line, NoLinks, Way
from benchmarks.report import Report
from swarm.config import Config, NodeConfig, RunConfig
from swarm.events import Event, EventReader, Round, Started
from swarm.model.llama import parameter_count
from swarm.model.sizes import model_config

NODES = 4
MBIT, RTT_MS = 37.5, 5.0
"""The round trip, too, is a time: 0.2 s to 103 s of all-reduce are 4 ms to one of 1.9 s."""
LINES = [Line(MBIT, MBIT)] * NODES
MODEL = "5m"
STEPS = 100
TRAINING_SECONDS = 38 * 60
REDUCES = {"all in the USA": (103, 95.7), "USA and Europe": (382, 85.6), "worldwide": (469, 83.0)}
"""Seconds of all-reduce, and the utilisation, %, that follows for who waits for it: the bar for a blocking round."""
OVERLAPPED = 99.0
ROUNDS, COUNTED = 9, (6, 7, 8)
"""Training rounds of each run, and those that count: from the first step of theirs to the first of the next round."""
RINGS, YOUNG_RINGS = 13, 4
"""All-reduces of the ring, and the first ones of them, which do not count."""
RING_PAUSE_SECONDS = 5.0
"""Before each."""
PATIENCE_SECONDS = 600.0


class Stretch(NamedTuple):
    """Inner steps in one go: until the round is ready, or until it is committed (those of the next one, ahead)."""

    first_step: int
    """Of the run; its first is 0, in round 1."""
    began: float
    ended: float
    """Seconds, of one clock."""


@dataclass(frozen=True)
class Lived:
    """What one node did."""

    rounds: list[Round]
    stretches: list[Stretch]

    @property
    def counted(self) -> list[Round]:
        return [event for event in self.rounds if event.round in COUNTED]

    @property
    def span(self) -> tuple[float, float]:
        """From the first step of the first round that counts to the first one behind them."""
        first, behind = (
            next(stretch.began for stretch in self.stretches if stretch.first_step >= (round - 1) * STEPS)
            for round in (COUNTED[0], COUNTED[-1] + 1)
        )
        return first, behind

    @property
    def trained(self) -> float:
        """Seconds of it that were inner steps."""
        first, behind = self.span
        return sum(stretch.ended - stretch.began for stretch in self.stretches if first <= stretch.began < behind)


class Nodes:
    """The members of one run, each with its event file."""

    def __init__(self, hosts: Hosts, folder: Path, run: RunConfig, step_seconds: float) -> None:
        self.readers: list[EventReader] = []
        self.rounds: list[list[Round]] = [[] for _ in hosts.all]
        self._stretches = [folder / f"stretches-{index}" for index in range(len(hosts.all))]
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
            host.tell(
                config=Config(run=run, node=node).model_dump_json(),
                step_seconds=step_seconds,
                stretches=str(self._stretches[index]),
            )
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

    def lived(self) -> list[Lived]:
        """What each did, when all rounds have been committed."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(not rounds or rounds[-1].round < ROUNDS for rounds in self.rounds):
            for index, rounds in enumerate(self.rounds):
                rounds += [event for event in self._news(index) if isinstance(event, Round)]
            if time.monotonic() > deadline:
                raise SystemExit(f"rounds of the nodes after {PATIENCE_SECONDS:.0f} s: {[len(r) for r in self.rounds]}")
            time.sleep(0.1)
        noted = [path.read_text().splitlines() for path in self._stretches]
        stretches = [[Stretch(*json.loads(line)) for line in lines] for lines in noted]
        return [Lived(*one) for one in zip(self.rounds, stretches, strict=True)]


def ring_seconds() -> float:
    """What the best all-reduce of the ring takes on the same links, a member on average."""
    with Hosts(Path(__file__).with_name("ring_node.py"), LINES, Way(RTT_MS), "bbr") as hosts:
        for rank, host in enumerate(hosts.all):
            host.tell(
                rank=rank,
                members=NODES,
                first=hosts.all[0].address,
                values=parameter_count(model_config(MODEL)),
                reduces=RINGS,
                pause=RING_PAUSE_SECONDS,
            )
        took = [statistics.mean(float(host.news()["seconds"]) for host in hosts.all) for _ in range(RINGS)]
    return min(took[YOUNG_RINGS:])


def measured(training_seconds: float, ahead: int) -> list[Lived]:
    """A swarm in which each trains for so long a round."""
    run = RunConfig(
        name="utilisation",
        model=MODEL,
        sequence_length=16,
        batch_size=1,
        inner_steps=STEPS,
        overlap_steps=ahead,
        founders=NODES,
    )
    worker = Path(__file__).with_name("utilisation_node.py")
    with tempfile.TemporaryDirectory() as folder, Hosts(worker, LINES, Way(RTT_MS), "bbr") as hosts:
        return Nodes(hosts, Path(folder), run, training_seconds / STEPS).lived()


def totals(nodes: list[Lived]) -> tuple[float, float]:
    """Seconds of the rounds that count: all, and those of inner steps; summed over the nodes."""
    spans = [node.span for node in nodes]
    return sum(behind - first for first, behind in spans), sum(node.trained for node in nodes)


def utilisation(nodes: list[Lived]) -> float:
    """%, of all nodes."""
    whole, trained = totals(nodes)
    return 100 * trained / whole


def waits(nodes: list[Lived]) -> float:
    """Seconds of a round in which a node does not train."""
    whole, trained = totals(nodes)
    return (whole - trained) / len(nodes) / len(COUNTED)


def compare(name: str, ring: float, report: Report) -> None:
    seconds, bar = REDUCES[name]
    training = ring * TRAINING_SECONDS / seconds
    report(f"{name}: training {training:.2f} s a round, {TRAINING_SECONDS} to {seconds} s there")
    for ahead, least in ((0, bar), (STEPS // 4, OVERLAPPED)):
        nodes = measured(training, ahead)
        events = [event for node in nodes for event in node.counted]
        whole, steps_took, waited, steps = (
            statistics.median(float(getattr(event, field)) for event in events)
            for field in ("round_seconds", "train_seconds", "reduce_seconds", "ahead_steps")
        )
        report(
            f"  round {whole:.2f} s: inner steps {steps_took:.2f} s, {steps:.0f} of them ahead; reduce {waited:.2f} s; "
            f"without training {waits(nodes):.2f} s"
        )
        report.bar(f"{'overlapped' if ahead else 'blocking'}, % of all time", utilisation(nodes), least, least=True)


def main() -> int:
    report = Report()
    began = time.monotonic()
    try:
        report(f"{NODES} nodes, links of {MBIT:g} Mbit/s and {RTT_MS:g} ms, {STEPS} inner steps a round")
        ring = ring_seconds()
        report(f"the best of {RINGS - YOUNG_RINGS} ring all-reduces of int8 codes over gloo takes {ring:.2f} s\n")
        for name in REDUCES:
            compare(name, ring, report)
    except NoLinks as reason:
        report(f"skipped: no links can be emulated here: {reason}")
        return 0
    report(f"\n{time.monotonic() - began:.0f} s")
    Path(__file__).with_suffix(".log").write_text("\n".join(report.lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
