"""The way between the shards of a local group and the node's flat vector: its speed, and the memory of each rank.

    python benchmarks/shards.py                # prints the tables and writes benchmarks/shards.log

Groups of 1, 2 and 4 real ranks on the CPU load the parameters of a model of 100M values (--model) from the flat vector
and store them into it: each rank copies its own rows between its parameters and the shared memory. Beside it, as many
threads copy a vector of that length. `share of memcpy` is bytes a CPU second of all ranks together to bytes a CPU
second of all those threads in the same round: at 1.0 neither the commands nor the cutting into rows cost anything. CPU
seconds, memory stalls included, so that others' work on the machine counts less.

The second table has what each rank beside the node's own process has in memory once its parameters are set, and after
all rounds: private memory must not grow by a copy, and of the two shared vectors it touches its own rows. The peak is
the process's largest resident size, and must not be above what there is at last.
Exit status 1 if a share is below 0.5, or if private memory or the peak is more by 5 % of a rank's rows of one vector.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.codec import processor
from swarm.config import Config, NodeConfig, RunConfig
from swarm.train.build import open_trainer
from swarm.train.rank import share
from swarm.train.ranks.others import OtherRanks
from swarm.train.trainer import InnerTrainer

BAR = 0.5
PRIVATE_BAR = 0.05
LOG = Path(__file__).with_suffix(".log")


@dataclass(frozen=True)
class Memory:
    """Megabytes of a process: what is resident now, and the most that ever was."""

    private: float
    shared: float
    resident: float
    peak: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found = {line.split(":")[0]: int(line.split()[1]) / 1e3 for line in lines if line.startswith(("Rss", "Vm"))}
        return cls(found["RssAnon"], found["RssShmem"], found["VmRSS"], found["VmHWM"])


def cpu_seconds(others: OtherRanks) -> float:
    """Of this process and of the other ranks' main threads."""
    ranks = (Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in others.pids)
    return time.process_time() + sum(int(nanoseconds) for nanoseconds in ranks) / 1e9


def measure(trainer: InnerTrainer, others: OtherRanks, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each operation in each round, after one round that is not counted."""
    theta_P, local_P = trainer.vectors.theta_P, trainer.vectors.local_P
    source_P, copy_P = np.ones_like(theta_P), np.ones_like(theta_P)
    parts = [slice(*share(0, theta_P.size, rank, others.world)) for rank in range(others.world)]
    threads = ThreadPoolExecutor(others.world)
    operations: dict[str, Callable[[], object]] = {
        "memcpy": lambda: list(threads.map(lambda part: np.copyto(copy_P[part], source_P[part]), parts)),
        "load": lambda: trainer.load_flat(theta_P),
        "store": lambda: trainer.store_flat(local_P),
    }
    seconds: dict[str, list[float]] = {name: [] for name in operations}
    for turn in range(rounds + 1):
        for name, operation in operations.items():
            began = cpu_seconds(others)
            operation()
            if turn:
                seconds[name].append(cpu_seconds(others) - began)
    threads.shutdown()
    return seconds


def group(world: int, model: str, rounds: int) -> tuple[list[str], list[str], bool]:
    """Lines of the two tables, and whether the bars are met."""
    config = Config(run=RunConfig(model=model), node=NodeConfig(local_world_size=world, threads=world))
    others = OtherRanks.start(world)
    speeds, memories, met = [], [], True
    try:
        trainer = open_trainer(config, others)
        trainer.initial(0, trainer.vectors.theta_P)
        trainer.load_flat(trainer.vectors.theta_P)
        before = [Memory.of(pid) for pid in others.pids]
        seconds = measure(trainer, others, rounds)
        vector = trainer.layout.count * 4 / 1e6
        for name, took in seconds.items():
            shares = [copy / own for copy, own in zip(seconds["memcpy"], took, strict=True)]
            median, spread = statistics.median(shares), f"{min(shares):.2f} - {max(shares):.2f}"
            speed = vector / 1e3 / statistics.median(took)
            speeds.append(f"{world:>5}  {name:<8}{speed:>8.1f}{median:>18.2f}   {spread}")
            met = met and median >= BAR
        for rank, (pid, first) in enumerate(zip(others.pids, before, strict=True), 1):
            last = Memory.of(pid)
            columns = (vector, first.private, last.private, last.shared, last.peak - last.resident)
            memories.append(f"{world:>5}{rank:>6}" + "".join(f"{megabytes:>16.1f}" for megabytes in columns))
            met = met and max(last.private - first.private, last.peak - last.resident) < PRIVATE_BAR * vector / world
        trainer.close()
    finally:
        others.close()
    return speeds, memories, met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="100m", help="size of the model (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="times that each operation is measured")
    arguments = parser.parse_args()
    speeds = ["ranks  copies      GB/s   share of memcpy   lowest and highest"]
    memories = ["ranks  rank       vector MB      private MB         at last       shared MB   peak above it"]
    met = True
    for world in (1, 2, 4):
        fast, small, good = group(world, arguments.model, arguments.rounds)
        speeds, memories, met = speeds + fast, memories + small, met and good
    load = f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
    text = "\n".join(
        [
            f"{processor()}, {arguments.model}, median of {arguments.rounds} interleaved rounds, {load}",
            *("", *speeds, "", *memories, ""),
            f"bars {BAR} of memcpy, private memory grows by less than {PRIVATE_BAR:.0%} of a rank's rows: "
            f"{'met' if met else 'MISSED'}",
            "",
        ]
    )
    print(text)
    LOG.write_text(text)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
