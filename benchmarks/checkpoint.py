"""What a checkpoint costs training: how long a save holds it up, and how fast it is written beside it.

    python benchmarks/checkpoint.py       # prints the table and writes benchmarks/checkpoint.log

A save begins right after a commit and goes on in a thread while the next round trains. It can hold training up in three
ways, each measured here: when it begins; at the next commit, where a chunk that is not saved yet is copied before the
outer step changes it; and by taking memory bandwidth and a core from the training beside it. The yardstick is what a
blocking save would cost: a copy of theta and momentum, and the write itself.

All are measured in turn in each repetition, so that a slow moment hits all of them; the table has medians, and the
median over the repetitions of each time's ratio to the outer step in the same repetition. Training is the 10m model on
one thread, its step while saves run back to back against its step without; both alternate, too.
Exit status 1 if a save takes more than 1 ms to begin, or its copies at the next commit more than 2 blocking copies.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np

from ops.codec import get_codec
from ops.encoded import Encoded
from ops.layout import FlatLayout
from ops.warm_up import warm_up
from swarm.checkpoint.writer import Job, write_checkpoint
from swarm.config import Config, RunConfig
from swarm.outer_state import OuterState
from swarm.train.build import build_trainer
from swarm.train.group import LocalGroup

LOG = Path(__file__).with_suffix(".log")
BEGIN_BAR, COPY_BAR = 1e-3, 2.0


class Bench:
    """An outer state of P values and the means that move it."""

    def __init__(self, values: int, pool: ThreadPoolExecutor, folder: Path) -> None:
        random = np.random.default_rng(0)
        codec = get_codec("int8")
        warm_up(codec)
        theta_P, momentum_P = (random.standard_normal(values, np.float32) for _ in range(2))
        self.layout = FlatLayout.of([("theta", (values,))])
        self.state = OuterState(theta_P, momentum_P, codec=codec, lr=0.7, momentum=0.9, pool=pool, keep_means=0)
        self.mean = Encoded.allocate(codec, values)
        codec.quantise(theta_P, self.mean)
        self.folder = folder
        self.theta_P, self.momentum_P = theta_P, momentum_P
        self._round = count()

    async def step(self, read: float | None) -> float:
        """Seconds of an outer step, with a save of which this share is read so far; None: no save."""
        snapshot = None if read is None else self.state.snapshot()
        if snapshot is not None:
            for index in range(int(snapshot.chunks * (read or 0.0))):
                snapshot.read(index)
        began = time.perf_counter()
        await self.state.apply(self.mean, next(self._round))
        seconds = time.perf_counter() - began
        if snapshot is not None:
            self.state.release(snapshot)
        return seconds

    def begin(self) -> float:
        began = time.perf_counter()
        snapshot = self.state.snapshot()
        seconds = time.perf_counter() - began
        self.state.release(snapshot)
        return seconds

    def copy(self) -> float:
        """A blocking copy of the state, into new memory as such a save would need it."""
        began = time.perf_counter()
        copies = self.theta_P.copy(), self.momentum_P.copy()
        seconds = time.perf_counter() - began
        del copies
        return seconds

    def write(self) -> float:
        """A whole save, synced to the disk."""
        snapshot = self.state.snapshot()
        job = Job({}, bytes(32), bytes(32), 0, bytes(32), "bench", self.layout, snapshot, records=[b""])
        began = time.perf_counter()
        write_checkpoint(job, self.folder / "round")
        seconds = time.perf_counter() - began
        self.state.release(snapshot)
        return seconds


async def measure(bench: Bench, repetitions: int) -> dict[str, list[float]]:
    """Seconds of each, by repetition."""
    found: dict[str, list[float]] = {}
    for repetition in range(repetitions + 1):
        times = {
            "outer step, no save": await bench.step(None),
            "outer step, save all read": await bench.step(1.0),
            "outer step, save half read": await bench.step(0.5),
            "outer step, save not begun to read": await bench.step(0.0),
            "begin a save": bench.begin(),
            "blocking copy": bench.copy(),
            "save to disk, synced": bench.write(),
        }
        if repetition:  # the first one warms caches and memory up
            for name, seconds in times.items():
                found.setdefault(name, []).append(seconds)
    return found


def training(bench: Bench, repetitions: int, steps: int) -> tuple[list[float], list[float]]:
    """Seconds a step without and with saves running back to back, by repetition."""
    run = RunConfig(model="10m", sequence_length=128, batch_size=2)
    with LocalGroup() as group:
        trainer = build_trainer(Config(run=run), group, 1)
        trainer.load_flat(trainer.initial(0))
        samples = iter(range(10**9))

        def step() -> float:
            return trainer.train(samples, steps).seconds / steps

        step()
        alone, beside = [], []
        for _ in range(repetitions):
            alone.append(step())
            with saving(bench.write):
                beside.append(step())
    return alone, beside


class saving:
    """While open: saves, one after the other."""

    def __init__(self, save: Callable[[], object]) -> None:
        self._save, self._over = save, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            self._save()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def lines(bench: Bench, found: dict[str, list[float]], alone: list[float], beside: list[float]) -> Iterator[str]:
    count, repetitions = bench.state.count, len(alone)
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    yield f"{processor()}, {cores} cores, load {load:.1f}, {count} values, median of {repetitions} repetitions"
    yield ""
    yield f"{'':<38}{'ms':>10}{'ratio':>9}"
    base = found["outer step, no save"]
    for name, seconds in found.items():
        ratio = statistics.median(one / step for one, step in zip(seconds, base, strict=True))
        yield f"{name:<38}{1e3 * statistics.median(seconds):>10.3f}{ratio:>9.3f}"
    slower = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
    yield f"{'training step, no save':<38}{1e3 * statistics.median(alone):>10.3f}"
    yield f"{'training step beside saves':<38}{1e3 * statistics.median(beside):>10.3f}   {slower:.3f} times without"
    yield ""
    begin, copies = stall(found)
    write = statistics.median(found["save to disk, synced"])
    lost = write * (1 - 1 / slower)
    yield f"Training beside it loses {1e3 * lost:.0f} ms while a save is written, which takes {1e3 * write:.0f} ms."
    yield f"A save takes {1e3 * begin:.3f} ms to begin, and is written at {8e-6 * count / write:.0f} MB/s."
    yield f"Should a commit come before any of it is read, that commit takes {copies:.2f} blocking copies longer."


def stall(found: dict[str, list[float]]) -> tuple[float, float]:
    """(seconds to begin a save, worst extra time of the next outer step in units of a blocking copy)."""
    extra = zip(
        found["outer step, save not begun to read"], found["outer step, no save"], found["blocking copy"], strict=True
    )
    return statistics.median(found["begin a save"]), statistics.median((w - b) / c for w, b, c in extra)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=50_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="swarm-checkpoint-", dir=Path(__file__).parent))  # a disk, not memory
    try:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            bench = Bench(options.values, pool, folder)
            found = asyncio.run(measure(bench, options.repetitions))
            alone, beside = training(bench, options.repetitions, options.steps)
    finally:
        shutil.rmtree(folder)
    text = "\n".join(lines(bench, found, alone, beside)) + "\n"
    LOG.write_text(text)
    print(text, end="")
    begin, copies = stall(found)
    return 0 if begin <= BEGIN_BAR and copies <= COPY_BAR else 1


if __name__ == "__main__":
    raise SystemExit(main())
