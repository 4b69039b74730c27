"""fp32 "code" of a block: the values themselves, the reference the other codecs are measured against. No scales."""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from ops.jit import Bytes, Floats
from ops.kernels_finite import INFINITY, absmax_bits


@register_jitable  # type: ignore[untyped-decorator]
def encode_block(x_B: Floats, codes_b: Bytes) -> np.float32:
    """Copy the values; -1 if x holds a NaN or an infinity."""
    if absmax_bits(x_B) >= INFINITY:
        return np.float32(-1)
    codes_b.view(np.float32)[:] = x_B
    return np.float32(1)


@register_jitable  # type: ignore[untyped-decorator]
def decode_block(codes_b: Bytes, _scale: np.float32, out_B: Floats) -> None:
    out_B[:] = codes_b.view(np.float32)


@register_jitable  # type: ignore[untyped-decorator]
def add_block(codes_b: Bytes, factor: np.float32, accumulator_B: Floats) -> None:
    values_B = codes_b.view(np.float32)
    for i in range(accumulator_B.size):
        accumulator_B[i] += values_B[i] * factor
