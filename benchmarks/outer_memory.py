"""CPU memory of the outer state, measured: theta, outer momentum and the local parameters, through one round.

    python benchmarks/outer_memory.py          # 100m and 1b; prints the table and writes benchmarks/outer_memory.log

For each size a fresh process allocates what a node allocates, computes theta_0, fills the local parameters as a local
group stores them, quantises the pseudo-gradient, takes the outer step, hashes the state and reads chunks for a
newcomer: the node's own code, without a network. Counted is the most that was resident at any time (VmHWM) above what
was before (Python, libraries, compiled kernels).

Not counted: the model and the inner optimizer, which live on the node's device and here only on torch's meta device;
and codes, about 1 byte a value with int8, in a column of their own: a reduce has those of the own contribution and of
the mean, and the means of the last 4 rounds are kept for members that fell behind.
`vectors` are the three vectors, 12 bytes a value, `overhead` what the peak is above them.
A model that does not fit into the memory that is free is left out and said so.
Exit status 1 if a size that was measured takes more than 12 bytes a value and 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.codec import processor
from ops.codec import get_codec
from ops.encoded import Encoded
from ops.layout import FlatLayout
from ops.warm_up import warm_up
from p2p.reduce.contribution import CHUNK_VALUES, Contribution
from swarm.model.initial import initial_theta
from swarm.model.llama import Llama
from swarm.model.sizes import model_config
from swarm.outer_state import OuterState
from swarm.train.flat import layout_of
from swarm.train.ranks.shared import FlatVectors

BYTES = 12
BAR = 0.05
SPARE_BYTES = 3 << 30
"""Left to the rest of the machine."""
LOG = Path(__file__).with_suffix(".log")
CODEC = get_codec("int8")


def layout(model: str) -> FlatLayout:
    with torch.device("meta"):
        return layout_of(Llama(model_config(model)))


def status(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


async def one_round(model: str, layout: FlatLayout, pool: ThreadPoolExecutor) -> Encoded:
    """What a node does to its outer state in a round; returns the codes, which the caller counts."""
    vectors = FlatVectors.private(layout.count)
    theta_P, local_P = vectors.theta_P, vectors.local_P
    initial_theta(layout, model_config(model), 0, theta_P)
    for start in range(0, layout.count, CHUNK_VALUES):
        part = slice(start, start + CHUNK_VALUES)
        np.multiply(theta_P[part], np.float32(0.999), out=local_P[part])
    codes = Encoded.allocate(CODEC, layout.count)

    def source(start: int, stop: int, out: Encoded) -> None:
        CODEC.quantise_difference(theta_P[start:stop], local_P[start:stop], out)

    await Contribution(codes, source, pool).ensure([(0, layout.count)])
    momentum_P = np.zeros(layout.count, np.float32)
    state = OuterState(theta_P, momentum_P, codec=CODEC, lr=0.7, momentum=0.9, pool=pool)
    await state.apply(codes, 0)
    await state.digests()
    for index in range(min(8, state.chunks)):
        state.read(index)
    return codes


def measure(model: str) -> None:
    """In a process of its own: prints parameters, peak bytes and bytes of the codes."""
    warm_up(CODEC)
    places = layout(model)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
        before = status("VmRSS")
        codes = asyncio.run(one_round(model, places, pool))
    print(codes.count, status("VmHWM") - before, codes.nbytes)


def line(model: str) -> tuple[str, bool]:
    """A row of the table, and whether the bar is met."""
    count = layout(model).count
    need = count * (BYTES + 2) + SPARE_BYTES
    free = int(next(x for x in Path("/proc/meminfo").read_text().splitlines() if "MemAvailable" in x).split()[1]) * 1024
    if need > free:
        return f"{model:<8}{count:>15}   left out: {need / 2**30:.0f} GiB wanted, {free / 2**30:.0f} GiB free", True
    command = [sys.executable, __file__, "--measure", model]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    count, peak, codes = (int(word) for word in said.split())
    state = (peak - codes) / count
    overhead = state / BYTES - 1
    columns = f"{BYTES * count / 2**30:>14.2f}{(peak - codes) / 2**30:>10.2f}{state:>13.3f}{overhead:>10.2%}"
    return f"{model:<8}{count:>15}{columns}{codes / 2**30:>12.2f}", overhead <= BAR


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="100m,1b", help="sizes, with commas between (default: %(default)s)")
    parser.add_argument("--measure", metavar="MODEL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return 0
    rows = [line(model) for model in arguments.models.split(",")]
    head = f"{'model':<8}{'parameters':>15}{'vectors GiB':>14}{'peak GiB':>10}{'bytes/value':>13}{'overhead':>10}"
    met = all(good for _, good in rows)
    verdict = f"outer state within {BYTES} bytes a value and {BAR:.0%}: {'met' if met else 'MISSED'}"
    text = "\n".join([processor(), "", f"{head}{'codes GiB':>12}", *(row for row, _ in rows), "", verdict, ""])
    print(text)
    LOG.write_text(text)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
