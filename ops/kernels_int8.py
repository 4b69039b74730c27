"""int8 code of a block: one byte a value, code = round(x * 127 / absmax) to nearest even, scale = absmax / 127."""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from ops.jit import Bytes, Floats
from ops.kernels_finite import INFINITY, absmax_bits, largest_scale

LEVELS = np.float32(127)
LARGEST_SCALE = largest_scale(127)
# Bits of 127 * 2^-126. A smaller absmax would give a denormal scale; such a block, below 1.5e-36, is coded as zeros, so
# that a decoded value is never denormal: threads that flush denormals to zero decode the same bits as all others.
SMALLEST = (LEVELS * np.finfo(np.float32).tiny).view(np.int32)


@register_jitable(forceinline=True)  # type: ignore[untyped-decorator]
def encode_block(x_B: Floats, codes_b: Bytes) -> np.float32:
    """Fill the codes and return the scale, or -1 if x holds a NaN or an infinity."""
    signed_B = codes_b.view(np.int8)
    bits = np.int32(absmax_bits(x_B))
    if bits >= INFINITY:
        return np.float32(-1)
    if bits < SMALLEST:
        for i in range(signed_B.size):
            signed_B[i] = np.int8(0)
        return np.float32(0)
    absmax = bits.view(np.float32)
    inverse = LEVELS / absmax
    for i in range(x_B.size):
        signed_B[i] = np.int8(np.rint(x_B[i] * inverse))
    return min(absmax / LEVELS, LARGEST_SCALE)


@register_jitable(forceinline=True)  # type: ignore[untyped-decorator]
def decode_block(codes_b: Bytes, scale: np.float32, out_B: Floats) -> None:
    signed_B = codes_b.view(np.int8)
    for i in range(out_B.size):
        out_B[i] = np.float32(signed_B[i]) * scale


@register_jitable(forceinline=True)  # type: ignore[untyped-decorator]
def add_block(codes_b: Bytes, factor: np.float32, accumulator_B: Floats) -> None:
    signed_B = codes_b.view(np.int8)
    for i in range(accumulator_B.size):
        accumulator_B[i] += np.float32(signed_B[i]) * factor
