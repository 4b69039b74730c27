"""Speed of the outer step against memcpy in the same run: what a node does with its vectors once a round.

    python benchmarks/outer_step.py            # prints the table and writes benchmarks/outer_step.log

The stages are the node's own code on the parameters of a model of 100M values (--model): the parameters are stored into
the flat vector, the pseudo-gradient is quantised without being stored, the mean is decoded and goes through Nesterov in
one pass, and theta is written back into the parameters. The mean is this node's own codes: no network.

Each stage has to read and write so many bytes a value, and memcpy shows how fast this machine moves bytes (it reads
and writes one for each byte copied). `of traffic` is a stage's bytes a second to memcpy's in the same round of
measuring: at 1.0 nothing but memory limits it. `outer step` is quantise, decode, Nesterov and write-back together. What
works in place may be above 1, as its cache lines need not be fetched just to be overwritten.

All stages run in turn in each round, on one core. Seconds are CPU seconds, memory stalls included, so that others' work
on the machine counts less; the first line says how many wall seconds went by for each (1.0 on a quiet machine).
Exit status 1 if the whole is below 0.5 for the int8 codec.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.codec import processor
from ops.codec import Codec, get_codec
from ops.encoded import Encoded
from ops.warm_up import warm_up
from p2p.reduce.contribution import CHUNK_VALUES, Contribution
from swarm.model.sizes import model_config
from swarm.outer_state import OuterState
from swarm.train.flat import layout_of, load_flat, store_flat
from swarm.train.group import LocalGroup
from swarm.train.parallel import sharded_model

BAR = 0.5
LOG = Path(__file__).with_suffix(".log")
OUTER_STEP = ("pseudo-gradient, quantise", "decode, Nesterov", "write-back")


@dataclass(frozen=True)
class Stage:
    """bytes: read and written for each value."""

    bytes: float
    run: Callable[[], Awaitable[object]]


class Node:
    """The vectors of one node, and the stages of its outer step."""

    def __init__(self, model: str, codec: Codec, group: LocalGroup, pool: ThreadPoolExecutor) -> None:
        self._group, self._codec, self._pool = group, codec, pool
        self._model = sharded_model(model_config(model), group)
        self._layout = layout_of(self._model)
        self.count = self._layout.count
        self.theta_P, self.local_P, self._copy_P = (np.empty(self.count, np.float32) for _ in range(3))
        random = np.random.default_rng(0)
        random.standard_normal(out=self.theta_P, dtype=np.float32)
        self.local_P[:] = self.theta_P * np.float32(0.99)
        load_flat(self._model, self._layout, group, self.local_P)
        momentum_P = np.zeros(self.count, np.float32)
        self._state = OuterState(self.theta_P, momentum_P, codec=codec, lr=0.7, momentum=0.9, pool=pool, keep_means=1)
        self._codes = Encoded.allocate(codec, self.count)

    def stages(self) -> dict[str, Stage]:
        code = self._codec.bits_per_value / 8
        return {
            "memcpy": Stage(8, self._memcpy),
            "store the parameters": Stage(8, self._store),
            OUTER_STEP[0]: Stage(8 + code, self._quantise),
            OUTER_STEP[1]: Stage(16 + code, self._step),
            OUTER_STEP[2]: Stage(8, self._write_back),
        }

    async def _memcpy(self) -> None:
        def copy(start: int) -> None:
            np.copyto(self._copy_P[start : start + CHUNK_VALUES], self.theta_P[start : start + CHUNK_VALUES])

        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._pool, copy, s) for s in range(0, self.count, CHUNK_VALUES)))

    async def _store(self) -> None:
        store_flat(self._model, self._layout, self._group, self.local_P)

    async def _quantise(self) -> None:
        contribution = Contribution(self._codes, self._source, self._pool)
        pieces = range(0, self.count, CHUNK_VALUES)
        await asyncio.gather(*(contribution.ensure([(s, min(s + CHUNK_VALUES, self.count))]) for s in pieces))

    def _source(self, start: int, stop: int, out: Encoded) -> None:
        self._codec.quantise_difference(self.theta_P[start:stop], self.local_P[start:stop], out)

    async def _step(self) -> None:
        assert self._state.round is not None
        await self._state.apply(self._codes, self._state.round + 1)

    async def _write_back(self) -> None:
        load_flat(self._model, self._layout, self._group, self.theta_P)


async def measure(node: Node, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each stage in each round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in node.stages()}
    for turn in range(rounds + 1):
        for name, stage in node.stages().items():
            began = time.process_time()
            await stage.run()
            if turn:
                seconds[name].append(time.process_time() - began)
    return seconds


def table(node: Node, seconds: dict[str, list[float]]) -> tuple[list[str], float]:
    """The lines to print, and the median share of its traffic's limit that the outer step reaches."""
    stages = node.stages()
    lines = [f"{'stage':<30}{'bytes/value':>12}{'ms':>8}{'GB/s':>8}{'of traffic':>12}   lowest and highest"]
    limits = [stages["memcpy"].bytes * node.count / s for s in seconds["memcpy"]]

    def line(name: str, bytes: float, took: list[float]) -> float:
        speeds = [bytes * node.count / s for s in took]
        shares = [speed / limit for speed, limit in zip(speeds, limits, strict=True)]
        share, spread = statistics.median(shares), f"{min(shares):.2f} - {max(shares):.2f}"
        speed, ms = statistics.median(speeds) / 1e9, statistics.median(took) * 1e3
        lines.append(f"{name:<30}{bytes:>12.2f}{ms:>8.0f}{speed:>8.1f}{share:>12.2f}   {spread}")
        return share

    for name, stage in stages.items():
        line(name, stage.bytes, seconds[name])
    whole = [sum(parts) for parts in zip(*(seconds[name] for name in OUTER_STEP), strict=True)]
    return lines, line("outer step", sum(stages[name].bytes for name in OUTER_STEP), whole)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="100m", help="size of the model (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="times that each stage is measured")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    wall, cpu, tables, met = time.perf_counter(), time.process_time(), list[str](), True
    for name in ("int8", "int4"):
        codec = get_codec(name)
        warm_up(codec)
        with LocalGroup() as group, ThreadPoolExecutor(1) as pool:
            node = Node(arguments.model, codec, group, pool)
            lines, share = table(node, asyncio.run(measure(node, arguments.rounds)))
        tables += [f"{name}, {node.count} values", "", *lines, ""]
        met = met and (share >= BAR or name != "int8")
    quiet = (time.perf_counter() - wall) / (time.process_time() - cpu)
    head = f"{processor()}, one core, {arguments.rounds} interleaved rounds, {quiet:.1f} wall seconds a CPU second"
    verdict = f"int8 outer step of what its memory traffic allows, bar {BAR}: {'met' if met else 'MISSED'}"
    text = "\n".join([head, "", *tables, verdict, ""])
    print(text)
    LOG.write_text(text)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
