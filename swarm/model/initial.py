"""theta_0: the parameters every founder of a run computes for itself, to the bit.

Uniform values from a counter-based generator's raw integers, one multiplication each: no transcendental and no sum
whose result could depend on the machine. Each parameter has its own stream, so its values depend on the seed and its
place only.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ops.layout import Entry, FlatLayout
from swarm.model.sizes import ModelConfig

_CHUNK = 1 << 20


def initial_theta(
    layout: FlatLayout, config: ModelConfig, seed: int, out_P: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """The flat fp32 vector of a new model, in out_P if given: bit-identical for one seed on every machine.

    Norm gains are 1. Matrices are uniform with a standard deviation of 1/sqrt(fan in); those that write to the
    residual stream get 1/sqrt(2 layers) of that (GPT-2), and the embedding 0.02.
    """
    theta_P = np.empty(layout.count, dtype=np.float32) if out_P is None else out_P
    assert theta_P.shape == (layout.count,)
    for index, entry in enumerate(layout.entries):
        values_P = theta_P[entry.start : entry.stop]
        if len(entry.shape) == 1:
            values_P.fill(1.0)
        else:
            _fill_uniform(values_P, _deviation(entry, config), seed, index)
    return theta_P


def _deviation(entry: Entry, config: ModelConfig) -> float:
    if entry.name == "embedding.weight":
        return 0.02
    deviation = 1.0 / math.sqrt(entry.shape[1])
    if entry.name.endswith(("attention.output.weight", "ffn.down.weight")):
        deviation /= math.sqrt(2 * config.layers)
    return deviation


def _fill_uniform(out_P: NDArray[np.float32], deviation: float, seed: int, stream: int) -> None:
    """Uniform on [-a, a) with a = sqrt(3) * deviation, from the top 24 bits of each 32-bit word."""
    generator = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    step = np.float32(math.sqrt(3.0) * deviation * 2.0**-23)
    for start in range(0, out_P.size, _CHUNK):
        chunk_P = out_P[start : start + _CHUNK]
        raw_P = generator.random_raw((chunk_P.size + 1) // 2).astype("<u8", copy=False).view("<u4")[: chunk_P.size]
        centred_P = (raw_P >> np.uint32(8)).astype(np.int32) - np.int32(1 << 23)
        np.multiply(centred_P.astype(np.float32), step, out=chunk_P)
