"""What averaging one fragment of the model a round (Streaming DiLoCo, arXiv:2501.18512) costs in held-out loss.

Trains the demo model in one process, over paired seeds and equal tokens, with the inner training, codec, mean and outer
step that nodes use. With F fragments a round has H / F inner steps and averages one F-th of the vector, so each is
averaged every H inner steps in all arms. While a round is reduced, each replica takes the first `ahead` inner steps of
the next one; half of what they move is kept (`overlap_weight`).

A run that ends has fragments whose last steps were never averaged: theta lacks on average (F - 1) / 2F x H steps, which
count in a run as short as this one. The loss "closed" is that of theta after F - 1 more rounds without inner steps.

    python benchmarks/streaming_quality.py
    python benchmarks/streaming_quality.py --resume --seeds 16     without the seeds that the log has
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import interval
from benchmarks.quality_training import NODES
from benchmarks.report import logged
from ops.codec import get_codec
from ops.encoded import Encoded
from ops.outer_step import nesterov_step_encoded
from p2p.protocol.fragments import Fragments
from swarm.config import RunConfig
from swarm.data.open import open_reader
from swarm.evaluation import SpareTimeEvaluation
from swarm.inner_training import Ahead, InnerTraining, Work
from swarm.model.sizes import model_config
from swarm.train.build import step_config
from swarm.train.group import LocalGroup
from swarm.train.rank import RankTrainer
from swarm.train.trainer import InnerTrainer

H, TURNS, LENGTH = 20, 6, 64
"""Inner steps between two averages of a fragment, and how often each is averaged."""
HELD_OUT_TOKENS = 1 << 15
Ranges = tuple[tuple[int, int], ...]

Floats = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    fragments: int = 1
    ahead: int = 0

    def __str__(self) -> str:
        name = f"F = {self.fragments}" if self.fragments > 1 else "blocking"
        return f"{name}, {self.ahead} ahead" if self.ahead else name

    def of(self, run: RunConfig) -> RunConfig:
        fields = {"fragments": self.fragments, "inner_steps": H // self.fragments, "overlap_steps": self.ahead}
        return run.model_copy(update=fields)


ARMS = (Arm(), Arm(2), Arm(4), Arm(4, 2))


class Swarm:
    """NODES replicas and the state that they share."""

    def __init__(self, run: RunConfig, trainers: Sequence[InnerTrainer]) -> None:
        self.run, self.trainers, self.codec = run, trainers, get_codec(run.codec)
        self.theta_P = trainers[0].initial(run.seed)
        self.momentum_P = np.zeros_like(self.theta_P)
        self.fragments = Fragments.equal(self.theta_P.size, run.fragments, self.codec.block)
        self.inner = [
            InnerTraining(run, trainer, SpareTimeEvaluation(trainer), self.codec, self.theta_P, self.fragments)
            for trainer in trainers
        ]
        self.ahead: list[Ahead | None] = [None] * len(trainers)

    def samples(self, round: int, rank: int) -> Ranges:
        share = self.run.inner_steps * self.run.batch_size
        start = ((round - 1) * NODES + rank) * share
        return ((start, start + share),)

    def round(self, round: int, *, last: bool) -> None:
        works = []
        for rank, inner in enumerate(self.inner):
            work, _ = inner.train(round, self.samples(round, rank), self.ahead[rank], _never, _silent)
            works.append(work)
        codes = [self._codes(round, work) for work in works]
        if self.run.overlap_steps and not last:
            self.ahead = [
                inner.go_ahead(round + 1, self.samples(round + 1, rank), _never)
                for rank, inner in enumerate(self.inner)
            ]
        self._step(round, codes, [float(work.tokens + work.earlier) for work in works])

    def close(self, round: int) -> None:
        """Average what the next round would, without inner steps."""
        start, stop = self.fragments.span(round)
        codes = []
        for trainer in self.trainers:
            codes.append(Encoded.allocate(self.codec, stop - start))
            local_P = trainer.vectors.local_P
            self.codec.quantise_difference(self.theta_P[start:stop], local_P[start:stop], codes[-1])
        self._step(round, codes, [1.0] * NODES)

    def _codes(self, round: int, work: Work) -> Encoded:
        codes = Encoded.allocate(self.codec, self.fragments.size(round))
        assert work.source is not None
        work.source(0, codes.count, codes)
        return codes

    def _step(self, round: int, codes: list[Encoded], weights: list[float]) -> None:
        own, run = slice(*self.fragments.span(round)), self.run
        self.codec.mean(codes, weights, codes[0])
        theta_P, momentum_P = self.theta_P[own], self.momentum_P[own]
        nesterov_step_encoded(theta_P, momentum_P, codes[0], lr=run.outer_lr, momentum=run.outer_momentum)

    def loss(self) -> float:
        """Held-out, in nats per byte."""
        self.trainers[0].load_flat(self.theta_P)
        return self.trainers[0].evaluate()


def _never() -> bool:
    return False


def _silent(_step: int, _loss: float) -> None:
    pass


def one_arm(job: tuple[Arm, RunConfig]) -> tuple[float, float]:
    """Held-out loss of the run as it ends, and closed."""
    arm, run = job[0], job[0].of(job[1])
    inner, rounds = replace(step_config(run), held_out_tokens=HELD_OUT_TOKENS), TURNS * arm.fragments
    with LocalGroup() as group:
        size, reader = model_config(run.model), open_reader(run)
        swarm = Swarm(run, [InnerTrainer(RankTrainer(size, inner, reader, group)) for _ in range(NODES)])
        for round in range(1, rounds + 1):
            swarm.round(round, last=round == rounds)
        ends = swarm.loss()
        for round in range(rounds + 1, rounds + arm.fragments):
            swarm.close(round)
        return ends, swarm.loss()


Losses = tuple[float, float]
"""Of one arm and seed: as the run ends, and closed."""


def heading(run: RunConfig) -> str:
    return (
        f"model {run.model}, {NODES} nodes, each fragment averaged {TURNS} times, every {H} inner steps, "
        f"batch {run.batch_size} x {run.sequence_length}, codec {run.codec}, inner lr {run.inner_lr}, "
        f"outer lr {run.outer_lr}, momentum {run.outer_momentum}, overlap weight {run.overlap_weight}\n"
        f"{NODES * TURNS * H * run.batch_size * run.sequence_length} tokens an arm; held-out loss in nats per byte\n\n"
    )


def known(log: Path, run: RunConfig) -> dict[int, list[Losses]]:
    """By seed, what a log of this setting has, an entry an arm."""
    text = log.read_text() if log.exists() else ""
    if not text.startswith(heading(run)):
        return {}
    lines = re.findall(r"^seed (\d+): (.*)$", text, re.MULTILINE)
    found = {
        int(seed): [
            (float(end), float(closed)) for end, closed in re.findall(r"(\d\.\d{4}) \((\d\.\d{4}) closed", arms)
        ]
        for seed, arms in lines
    }
    return {seed: losses for seed, losses in found.items() if len(losses) == len(ARMS)}


def compare(seeds: Sequence[int], jobs: int, done: dict[int, list[Losses]], say: Say) -> None:
    run = RunConfig(sequence_length=LENGTH)
    say(heading(run))
    losses: dict[Arm, list[Losses]] = {arm: [] for arm in ARMS}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for seed in seeds:
            of_seed = run.model_copy(update={"seed": seed})
            new = done.get(seed) or pool.map(one_arm, [(arm, of_seed) for arm in ARMS])
            for arm, loss in zip(ARMS, new, strict=True):
                losses[arm].append(loss)
            found = (f"{arm} {one[-1][0]:.4f} ({one[-1][1]:.4f} closed)" for arm, one in losses.items())
            say(f"seed {seed}: " + "  ".join(found) + "\n")
    _say_losses(losses, say)
    _say_bytes(run, say)


def _say_losses(losses: dict[Arm, list[Losses]], say: Say) -> None:
    title = "loss, and its difference to blocking, mean and 95 % interval, in %"
    say(f"\n{'':16}{title:>50}{'closed':>40}\n")
    for arm, pairs in losses.items():
        line = f"{arm!s:16}"
        for place in range(2):
            values = [pair[place] for pair in pairs]
            blocking = [pair[place] for pair in losses[ARMS[0]]]
            mean, low, high = interval([100 * (a - b) / b for a, b in zip(values, blocking, strict=True)])
            shown = f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]" if arm != ARMS[0] else ""
            line += f"{np.mean(values):14.4f}{shown:>26}"
        say(line + "\n")


def _say_bytes(run: RunConfig, say: Say) -> None:
    """What a node sends, by the butterfly's 2 (N - 1) / N values a parameter."""
    from swarm.checkpoint.source import model_layout

    bits = get_codec(run.codec).reduce_bits_per_value
    whole = 2 * (NODES - 1) / NODES * model_layout(model_config(run.model)).count * bits / 8
    say(f"\n{'':16}{'MB a node sends in a round':>28}{'in H inner steps':>20}{'in each step ahead, to hide all':>34}\n")
    for arm in ARMS:
        once = whole / arm.fragments / 1e6
        hidden = f"{once / arm.ahead:.3f}" if arm.ahead else "none is hidden"
        say(f"{arm!s:16}{once:28.3f}{whole / 1e6:20.3f}{hidden:>34}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="held-out loss of streaming fragments, against averaging everything")
    parser.add_argument("--jobs", type=int, default=1, help="arms to train at the same time, a core each")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--resume", action="store_true", help="keep the seeds that the log has")
    chosen = parser.parse_args()
    began, log = time.perf_counter(), Path(__file__).with_suffix(".log")
    done = known(log, RunConfig(sequence_length=LENGTH)) if chosen.resume else {}
    with logged(log) as say:
        compare(range(chosen.seeds), chosen.jobs, done, say)
        say(f"{time.perf_counter() - began:.0f} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
