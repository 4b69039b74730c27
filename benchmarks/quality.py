"""What compressing the pseudo-gradients costs in held-out loss, and what DiLoCo costs against its neighbours.

Trains the demo model with DiLoCo in one process, each pseudo-gradient through the real codec, mean and outer step, over
paired seeds: one seed sets theta_0 and the order of the samples for every arm, so an arm's difference to fp32 is the
codec's. Beside them, on the same tokens: one node alone, and synchronous data parallel (swarm/baseline.py).

    python benchmarks/quality.py            the table of the README
    python benchmarks/quality.py --quick    fewer seeds and rounds
    python benchmarks/quality.py --sweep    outer learning rate and momentum
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ops.codec import get_codec
from ops.encoded import Encoded
from ops.outer_step import nesterov_step_encoded
from swarm.baseline import run_baseline
from swarm.config import RunConfig
from swarm.data.open import open_reader
from swarm.model.sizes import model_config
from swarm.train.build import step_config
from swarm.train.group import LocalGroup
from swarm.train.rank import RankTrainer
from swarm.train.trainer import InnerTrainer

NODES = 4
CODECS = ("fp32", "int8", "int4")
BAR_PERCENT = 1.0
ALL_HELD_OUT = 1 << 30
# Two-sided 95 % quantiles of Student's t, by degrees of freedom.
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
SWEEP = ((0.7, 0.0), (1.0, 0.0), (0.7, 0.3), (1.0, 0.3), (0.7, 0.5), (0.7, 0.9))
# Half the demo's inner steps and twice its rounds: the codec is used more often for the same tokens.
CODEC_INNER_STEPS, CODEC_ROUNDS = 20, 8
SWEEP_ROUNDS = 6

Say = Callable[[str], None]


def diloco(run: RunConfig, rounds: int) -> float:
    """Held-out loss, in nats per byte, after `rounds` rounds of NODES replicas."""
    inner = replace(step_config(run), held_out_tokens=ALL_HELD_OUT)
    codec = get_codec(run.codec)
    with LocalGroup() as group:
        size, reader = model_config(run.model), open_reader(run)
        replicas = [InnerTrainer(RankTrainer(size, inner, reader, group)) for _ in range(NODES)]
        theta_P = replicas[0].initial(run.seed)
        momentum_P, local_P = np.zeros_like(theta_P), np.empty_like(theta_P)
        parts = [Encoded.allocate(codec, theta_P.size) for _ in replicas]
        mean = Encoded.allocate(codec, theta_P.size)
        share = run.inner_steps * run.batch_size
        for turn in range(rounds):
            for rank, (replica, part) in enumerate(zip(replicas, parts, strict=True)):
                first = (turn * NODES + rank) * share
                replica.load_flat(theta_P)
                steps = run.inner_steps
                replica.train(iter(range(first, first + share)), steps, first_step=turn * steps)
                replica.store_flat(local_P)
                codec.quantise_difference(theta_P, local_P, part)
            codec.mean(parts, [float(share)] * NODES, mean)
            nesterov_step_encoded(theta_P, momentum_P, mean, lr=run.outer_lr, momentum=run.outer_momentum)
        replicas[0].load_flat(theta_P)
        return replicas[0].evaluate()


def compare_codecs(seeds: Sequence[int], rounds: int, jobs: int, say: Say) -> bool:
    """The table; True if int8 is within the bar."""
    run = RunConfig(inner_steps=CODEC_INNER_STEPS)
    tokens = NODES * rounds * run.inner_steps * run.batch_size * run.sequence_length
    say(
        f"model {run.model}, {NODES} nodes, {rounds} rounds of {run.inner_steps} inner steps, "
        f"batch {run.batch_size} x {run.sequence_length}, inner lr {run.inner_lr}, "
        f"outer lr {run.outer_lr}, momentum {run.outer_momentum}\n"
        f"{tokens} tokens an arm; held-out loss in nats per byte\n\n"
    )
    losses: dict[str, list[float]] = {}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        runs = [run.model_copy(update={"seed": seed}) for seed in seeds]
        for seed, arms in zip(seeds, pool.map(partial(all_arms, rounds=rounds, tokens=tokens), runs), strict=True):
            say(f"seed {seed}: " + "  ".join(f"{name} {loss:.4f}" for name, loss in arms.items()) + "\n")
            for name, loss in arms.items():
                losses.setdefault(name, []).append(loss)
    say(f"\n{'arm':22}{'loss':>9}{'difference to fp32 DiLoCo, mean and 95 % interval, % of loss':>66}\n")
    within = False
    for name, values in losses.items():
        mean, low, high = interval([100 * (a - b) / b for a, b in zip(values, losses["fp32"], strict=True)])
        shown = "" if name == "fp32" else f"{mean:+9.2f}  [{low:+.2f}, {high:+.2f}]"
        say(f"{name:22}{np.mean(values):9.4f}{shown:>66}\n")
        if name == "int8":
            within = high < BAR_PERCENT
    say(f"\nint8 within {BAR_PERCENT:g} % of fp32: {'yes' if within else 'NO'}\n")
    return within


def all_arms(run: RunConfig, rounds: int, tokens: int) -> dict[str, float]:
    """Held-out loss of every arm for one seed."""
    losses = {codec: diloco(run.model_copy(update={"codec": codec}), rounds) for codec in CODECS}
    baseline = run_baseline(run, total_tokens=tokens, nodes=NODES, held_out_tokens=ALL_HELD_OUT)
    return losses | {
        "one node, its share": baseline.alone,
        "one node, all tokens": baseline.alone_all_tokens,
        "data parallel": baseline.data_parallel,
    }


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) of the 95 % interval of the mean of paired differences."""
    values = np.array(differences)
    half = T_95[values.size - 1] * values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def sweep(seeds: Sequence[int], rounds: int, say: Say) -> None:
    """Held-out loss for some outer learning rates and momenta."""
    run = RunConfig()
    say(f"{'outer lr':>9}{'momentum':>9}  held-out loss after {rounds} rounds of {run.inner_steps} steps, by seed\n")
    for outer_lr, momentum in SWEEP:
        settings = {"outer_lr": outer_lr, "outer_momentum": momentum}
        losses = [diloco(run.model_copy(update={**settings, "seed": seed}), rounds) for seed in seeds]
        say(f"{outer_lr:9}{momentum:9}  {np.mean(losses):.4f}  ({', '.join(f'{loss:.4f}' for loss in losses)})\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="held-out loss by codec, beside one node and data parallel")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 3 rounds")
    parser.add_argument("--sweep", action="store_true", help="choose outer learning rate and momentum instead")
    parser.add_argument("--jobs", type=int, default=1, help="seeds to train at the same time, a core each")
    chosen = parser.parse_args()
    name = ("quality_sweep" if chosen.sweep else "quality") + ("_quick" if chosen.quick else "")
    seeds = range(2 if chosen.quick or chosen.sweep else 5)
    rounds = 3 if chosen.quick else SWEEP_ROUNDS if chosen.sweep else CODEC_ROUNDS
    began = time.perf_counter()
    with Path(__file__).with_name(f"{name}.log").open("w") as log:

        def say(text: str) -> None:
            print(text, end="", flush=True)
            log.write(text)
            log.flush()

        passed = True
        if chosen.sweep:
            sweep(seeds, rounds, say)
        else:
            passed = compare_codecs(seeds, rounds, chosen.jobs, say)
        say(f"{time.perf_counter() - began:.0f} s\n")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
