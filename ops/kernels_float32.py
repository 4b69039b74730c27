"""fp32 "code" of a block: the values themselves, the reference the other codecs are measured against. No scales."""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from ops.jit import Bytes, Floats
from ops.kernels_finite import INFINITY, absmax_bits


@register_jitable(forceinline=True)  # type: ignore[untyped-decorator]
def encode_block(x_B: Floats, codes_b: Bytes) -> np.float32:
    """Copy the values; -1 if x holds a NaN or an infinity."""
    if absmax_bits(x_B) >= INFINITY:
        return np.float32(-1)
    values_B = codes_b.view(np.float32)
    for i in range(x_B.size):
        values_B[i] = x_B[i]
    return np.float32(1)


@register_jitable(forceinline=True)  # type: ignore[untyped-decorator]
def decode_block(codes_b: Bytes, _scale: np.float32, out_B: Floats) -> None:
    values_B = codes_b.view(np.float32)
    for i in range(out_B.size):
        out_B[i] = values_B[i]


@register_jitable(forceinline=True)  # type: ignore[untyped-decorator]
def add_block(codes_b: Bytes, factor: np.float32, accumulator_B: Floats) -> None:
    values_B = codes_b.view(np.float32)
    for i in range(accumulator_B.size):
        accumulator_B[i] += values_B[i] * factor
