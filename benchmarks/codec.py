"""Speed of the codecs and of the outer step on one core, against memcpy in the same run.

    python benchmarks/codec.py            # prints the table and writes benchmarks/codec.log

GB/s counts the fp32 bytes of the vector that is processed (4 bytes a value), whatever else the operation reads and
writes; memcpy's GB/s counts the bytes copied, once, of a vector of the same size. All operations run in turn in each
round, so a slow moment of the machine hits all of them; `ratio` is the median over the rounds of GB/s to memcpy's GB/s
in the same round. Seconds are the thread's CPU seconds, memory stalls included, so that others' work on the machine
counts less; the first line says how many wall seconds went by for each (1.0 on a quiet machine). For a mean of 4, the
vector is the mean: four parts are read for each value counted.
Exit status 1 if int8 quantise or decode-add falls below 0.6 of memcpy.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ops.codec import CODECS, Codec, Encoded
from ops.jit import Floats
from ops.outer_step import nesterov_step, nesterov_step_encoded
from ops.packing import pack, unpack
from ops.pseudo_gradient import all_finite
from ops.warm_up import warm_up

BAR = 0.6
BARRED = ("int8 quantise", "int8 decode-add")
PIECE_VALUES = 1 << 20
LOG = Path(__file__).with_suffix(".log")


Operations = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Vectors:
    """fp32 vectors of P values that the operations share."""

    x_P: Floats
    y_P: Floats
    out_P: Floats
    sum_P: Floats

    @classmethod
    def random(cls, count: int) -> Vectors:
        random = np.random.default_rng(0)
        return cls(*(random.standard_normal(count, np.float32) for _ in range(4)))


def plain_operations(v: Vectors) -> Operations:
    """What needs no codec; memcpy first."""
    return {
        "memcpy": lambda: np.copyto(v.out_P, v.x_P),
        "all finite": lambda: all_finite(v.x_P),
        "outer step": lambda: nesterov_step(v.out_P, v.sum_P, v.x_P, lr=0.7, momentum=0.5),
    }


def codec_operations(codec: Codec, v: Vectors) -> Operations:
    """The operations of one codec."""
    out, *parts = (Encoded.allocate(codec, v.x_P.size) for _ in range(5))
    mean = Encoded.allocate(codec.of_means, v.x_P.size)
    for part in parts:
        codec.quantise(v.x_P, part)
    first = parts[0]
    operations: Operations = {
        "quantise": lambda: codec.quantise(v.x_P, out),
        "quantise difference": lambda: codec.quantise_difference(v.x_P, v.y_P, out),
        "decode": lambda: codec.decode(first, v.out_P),
        "decode-add": lambda: codec.decode_add(first, 0.5, v.sum_P),
        "mean of 4": lambda: codec.mean(parts, [1, 2, 3, 4], mean),
        "outer step from codes": lambda: nesterov_step_encoded(v.out_P, v.sum_P, first, lr=0.7, momentum=0.5),
        **packing(first),
    }
    return {f"{codec.name} {name}": operation for name, operation in operations.items()}


def packing(encoded: Encoded) -> Operations:
    """Of pieces, as a reduce sends them over a slow uplink; none for fp32."""
    if not encoded.codec.scaled:
        return {}
    cuts = range(0, encoded.count, PIECE_VALUES)
    codes = [encoded.slice(start, min(start + PIECE_VALUES, encoded.count)).codes for start in cuts]
    spaces = [np.empty_like(piece) for piece in codes]
    packed = [np.empty_like(piece) for piece in codes]
    sizes = [pack(*both) for both in zip(codes, packed, strict=True)]

    def pack_all() -> None:
        for both in zip(codes, packed, strict=True):
            pack(*both)

    def unpack_all() -> None:
        for source, size, space in zip(packed, sizes, spaces, strict=True):
            unpack(source.data[:size], space)

    part = sum(sizes) / encoded.codes.nbytes
    return {f"pack ({part:.3f} of the bytes)": pack_all, "unpack": unpack_all}


def measure(operations: Operations, count: int, rounds: int) -> dict[str, list[float]]:
    """GB/s of each operation in each round, after one round that is not counted."""
    speeds: dict[str, list[float]] = {name: [] for name in operations}
    for turn in range(rounds + 1):
        for name, operation in operations.items():
            started = time.thread_time()
            operation()
            seconds = time.thread_time() - started
            if turn:
                speeds[name].append(4 * count / seconds / 1e9)
    return speeds


def table(speeds: dict[str, list[float]]) -> tuple[list[str], dict[str, float]]:
    """The lines to print, and the median ratio of each operation."""
    lines = [f"{'operation':<36}{'GB/s':>8}{'ratio':>8}   lowest and highest ratio"]
    ratios: dict[str, float] = {}
    for name, values in speeds.items():
        each = [value / copy for value, copy in zip(values, speeds["memcpy"], strict=True)]
        ratios[name] = statistics.median(each)
        spread = f"{min(each):.2f} - {max(each):.2f}"
        lines.append(f"{name:<36}{statistics.median(values):>8.2f}{ratios[name]:>8.2f}   {spread}")
    return lines, ratios


def processor() -> str:
    """The processor's name, as far as the system tells."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=1 << 25, help="values of the vector (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="times that each operation is measured")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    vectors = Vectors.random(arguments.values)
    operations = plain_operations(vectors)
    for codec in CODECS.values():
        warm_up(codec)
        operations |= codec_operations(codec, vectors)
    wall, cpu = time.perf_counter(), time.thread_time()
    lines, ratios = table(measure(operations, arguments.values, arguments.rounds))
    quiet = (time.perf_counter() - wall) / (time.thread_time() - cpu)
    head = (
        f"{processor()}, one core, {arguments.values} values, median of {arguments.rounds} interleaved rounds, "
        f"{quiet:.1f} wall seconds a CPU second"
    )
    verdicts = [
        f"{name}: {ratios[name]:.2f} of memcpy, bar {BAR}: {'met' if ratios[name] >= BAR else 'MISSED'}"
        for name in BARRED
    ]
    text = "\n".join([head, "", *lines, "", *verdicts, ""])
    print(text)
    LOG.write_text(text)
    return 0 if all(ratios[name] >= BAR for name in BARRED) else 1


if __name__ == "__main__":
    raise SystemExit(main())
