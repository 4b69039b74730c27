"""The runs of benchmarks/quality.py: what each one is, and the log of their losses."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality_training import ALL_HELD_OUT, NODES, diloco
from ops.codec import CODECS
from swarm.baseline import run_baseline
from swarm.config import RunConfig

BASELINES = ("one node, its share", "one node, all tokens", "data parallel")
SEEDS = 5
LOG = Path(__file__).with_name("quality_runs.log")

Losses = dict[tuple[str, str, int], float]
"""(setting, arm, seed) -> held-out loss, nats per byte."""


@dataclass(frozen=True)
class Setting:
    """What all arms of one table share. `arms`: codecs, or those of BASELINES."""

    run: RunConfig
    rounds: int
    arms: tuple[str, ...]
    seeds: int = SEEDS
    held_out_tokens: int = ALL_HELD_OUT

    @property
    def tokens(self) -> int:
        run = self.run
        return NODES * self.rounds * run.inner_steps * run.batch_size * run.sequence_length

    def __str__(self) -> str:
        run = self.run
        return (
            f"model {run.model}, {NODES} nodes, {self.rounds} rounds of {run.inner_steps} inner steps in "
            f"{run.precision}, batch {run.batch_size} x {run.sequence_length}, inner lr {run.inner_lr}, "
            f"outer lr {run.outer_lr}, momentum {run.outer_momentum}, {self.tokens} tokens an arm, "
            f"loss of {'all' if self.held_out_tokens == ALL_HELD_OUT else self.held_out_tokens} held-out tokens"
        )


@dataclass(frozen=True)
class Trial:
    setting: Setting
    arm: str
    seed: int

    def run(self) -> tuple[dict[str, float], float]:
        """Held-out loss by arm, and how long it took; all baselines come of the trial of the first."""
        began = time.perf_counter()
        run = self.setting.run.model_copy(update={"seed": self.seed})
        held_out = self.setting.held_out_tokens
        if self.arm in CODECS:
            losses = {self.arm: diloco(run.model_copy(update={"codec": self.arm}), self.setting.rounds, held_out)}
        else:
            found = run_baseline(run, total_tokens=self.setting.tokens, nodes=NODES, held_out_tokens=held_out)
            values = found.alone, found.alone_all_tokens, found.data_parallel
            losses = dict(zip(BASELINES, values, strict=True))
        return losses, time.perf_counter() - began


def missing(settings: Iterable[Setting], runs: Losses) -> list[Trial]:
    """What is still to be run: one seed after the other, so that whoever stops has whole pairs."""
    return [
        Trial(setting, arm, seed)
        for setting in settings
        for seed in range(setting.seeds)
        for arm in setting.arms
        if (str(setting), arm, seed) not in runs and arm not in BASELINES[1:]
    ]


def read() -> Losses:
    entries = map(json.loads, LOG.read_text().splitlines() if LOG.exists() else ())
    return {(entry["setting"], entry["arm"], entry["seed"]): entry["loss"] for entry in entries}


def forget(settings: Sequence[Setting]) -> None:
    """Let these begin anew."""
    names = {str(setting) for setting in settings}
    lines = LOG.read_text().splitlines(keepends=True) if LOG.exists() else []
    LOG.write_text("".join(line for line in lines if json.loads(line)["setting"] not in names))


def run_all(trials: Iterable[Trial], jobs: int) -> None:
    """Each result is written as soon as it is there: whoever stops this loses only what is under way."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(trial.run): trial for trial in trials}
        for future in as_completed(futures):
            trial, (losses, seconds) = futures[future], future.result()
            for arm, loss in losses.items():
                print(f"{trial.setting.run.model} seed {trial.seed} {arm}: {loss:.4f} ({seconds:.0f} s)", flush=True)
                write(trial.setting, arm, trial.seed, loss)


def write(setting: Setting, arm: str, seed: int, loss: float) -> None:
    with LOG.open("a") as log:
        entry = {"setting": str(setting), "arm": arm, "seed": seed, "loss": round(loss, 6)}
        log.write(json.dumps(entry) + "\n")
