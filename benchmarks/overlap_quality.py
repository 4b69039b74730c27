"""What training ahead of the commit (overlap_steps) costs in held-out loss, at equal tokens.

Trains the demo model with DiLoCo in one process, over paired seeds. While a round would be reduced, every replica takes
the first `ahead` inner steps of the next one; then the outer step happens, and what those steps moved, times a weight
(`overlap_weight`), is carried over to the new theta. Where they begin:

    local    at the replica's own parameters, where its last inner step has left it
    eager    at theta stepped by the replica's own pseudo-gradient, in place of the mean that is not there yet
             (eager updates; Kale, Douillard, Donchev 2025)

    python benchmarks/overlap_quality.py
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import interval
from benchmarks.quality_training import NODES
from benchmarks.report import logged
from ops.codec import get_codec
from ops.encoded import Encoded
from ops.outer_step import nesterov_step, nesterov_step_encoded
from swarm.config import RunConfig
from swarm.data.open import open_reader
from swarm.model.sizes import model_config
from swarm.train.build import step_config
from swarm.train.group import LocalGroup
from swarm.train.rank import RankTrainer
from swarm.train.trainer import InnerTrainer

INNER_STEPS, ROUNDS, LENGTH = 20, 8, 64
HELD_OUT_TOKENS = 1 << 15

Floats = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    ahead: int
    weight: float = 1.0
    begin: str = "local"
    idle: int = 0
    """Inner steps of a round whose time it waits."""

    def __str__(self) -> str:
        if not self.ahead:
            return f"blocking, {self.idle} steps fewer" if self.idle else "blocking"
        return f"{self.ahead} ahead, weight {self.weight:g}" + (", eager" if self.begin == "eager" else "")


ARMS = (Arm(0), Arm(0, idle=4), Arm(1), Arm(4), Arm(4, 0.5), Arm(20, 0.5), Arm(4, begin="eager"))


class Replica:
    """One node: its trainer, its codes, and the samples that are its own."""

    def __init__(self, run: RunConfig, trainer: InnerTrainer, rank: int) -> None:
        self.run, self.trainer, self.rank = run, trainer, rank
        count = trainer.layout.count
        self.codes = Encoded.allocate(get_codec(run.codec), count)
        self.begin_P: Floats = np.empty(count, np.float32)
        """Where the inner steps that are taken ahead begin."""
        self._now_P: Floats = np.empty(count, np.float32)

    def train(self, turn: int, first: int, stop: int) -> None:
        """Inner steps [first, stop) of a round."""
        steps, batch = self.run.inner_steps, self.run.batch_size
        start = (turn * NODES + self.rank) * steps * batch
        samples = iter(range(start + first * batch, start + stop * batch))
        self.trainer.train(samples, stop - first, first_step=turn * steps + first)

    def contribute(self, theta_P: Floats) -> None:
        self.trainer.store_flat(self.begin_P)
        self.codes.codec.quantise_difference(theta_P, self.begin_P, self.codes)

    def estimate(self, theta_P: Floats, momentum_P: Floats) -> None:
        """Begin at the outer step that our own pseudo-gradient alone would make."""
        own_P, momentum_P = theta_P - self.begin_P, momentum_P.copy()
        self.begin_P[:] = theta_P
        nesterov_step(self.begin_P, momentum_P, own_P, lr=self.run.outer_lr, momentum=self.run.outer_momentum)
        self.trainer.load_flat(self.begin_P)

    def move(self, theta_P: Floats, weight: float) -> None:
        """The round is committed: to what that brought, and from there as far as the steps ahead weigh."""
        self.trainer.store_flat(self._now_P)
        self.trainer.load_flat(theta_P + np.float32(weight) * (self._now_P - self.begin_P))


def diloco(arm: Arm, run: RunConfig, rounds: int) -> float:
    """Held-out loss, in nats per byte."""
    inner = replace(step_config(run), held_out_tokens=HELD_OUT_TOKENS)
    with LocalGroup() as group:
        size, reader = model_config(run.model), open_reader(run)
        trainers = [InnerTrainer(RankTrainer(size, inner, reader, group)) for _ in range(NODES)]
        replicas = [Replica(run, trainer, rank) for rank, trainer in enumerate(trainers)]
        theta_P = trainers[0].initial(run.seed)
        momentum_P, mean = np.zeros_like(theta_P), Encoded.allocate(get_codec(run.codec), theta_P.size)
        for trainer in trainers:
            trainer.load_flat(theta_P)
        for turn in range(rounds):
            for replica in replicas:
                replica.train(turn, arm.ahead if turn else 0, run.inner_steps - arm.idle)
                replica.contribute(theta_P)
                if arm.begin == "eager":
                    replica.estimate(theta_P, momentum_P)
                if turn + 1 < rounds:
                    replica.train(turn + 1, 0, arm.ahead)
            mean.codec.mean([replica.codes for replica in replicas], [1.0] * NODES, mean)
            nesterov_step_encoded(theta_P, momentum_P, mean, lr=run.outer_lr, momentum=run.outer_momentum)
            for replica in replicas:
                replica.move(theta_P, arm.weight) if arm.ahead else replica.trainer.load_flat(theta_P)
        trainers[0].load_flat(theta_P)
        return trainers[0].evaluate()


def one_arm(job: tuple[Arm, RunConfig], rounds: int) -> float:
    return diloco(*job, rounds)


def compare(seeds: Sequence[int], jobs: int, say: Say) -> None:
    run = RunConfig(inner_steps=INNER_STEPS, sequence_length=LENGTH)
    say(
        f"model {run.model}, {NODES} nodes, {ROUNDS} rounds of {run.inner_steps} inner steps, "
        f"batch {run.batch_size} x {run.sequence_length}, codec {run.codec}, inner lr {run.inner_lr}, "
        f"outer lr {run.outer_lr}, momentum {run.outer_momentum}\n"
        f"{NODES * ROUNDS * run.inner_steps * run.batch_size * run.sequence_length} tokens an arm; "
        f"held-out loss in nats per byte\n\n"
    )
    losses: dict[Arm, list[float]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        of_seed = run.model_copy(update={"seed": seed})
        for arm, loss in zip(ARMS, _together([(arm, of_seed) for arm in ARMS], jobs), strict=True):
            losses[arm].append(loss)
        say(f"seed {seed}: " + "  ".join(f"{arm} {values[-1]:.4f}" for arm, values in losses.items()) + "\n")
    say(f"\n{'arm':24}{'loss':>9}{'difference to blocking, mean and 95 % interval, % of loss':>62}\n")
    for arm, values in losses.items():
        mean, low, high = interval([100 * (a - b) / b for a, b in zip(values, losses[ARMS[0]], strict=True)])
        shown = f"{mean:+9.2f}  [{low:+.2f}, {high:+.2f}]" if arm != ARMS[0] else ""
        say(f"{arm!s:24}{np.mean(values):9.4f}{shown:>62}\n")


def _together(work: Sequence[tuple[Arm, RunConfig]], jobs: int) -> list[float]:
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(partial(one_arm, rounds=ROUNDS), work))


def main() -> int:
    parser = argparse.ArgumentParser(description="held-out loss of training ahead of the commit, against blocking")
    parser.add_argument("--jobs", type=int, default=1, help="arms to train at the same time, a core each")
    chosen = parser.parse_args()
    began = time.perf_counter()
    with logged(Path(__file__).with_suffix(".log")) as say:
        compare(range(5), chosen.jobs, say)
        say(f"{time.perf_counter() - began:.0f} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
