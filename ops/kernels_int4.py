"""int4 code of a block: two values a byte, code = round(x * 7 / absmax) to nearest even, scale = absmax / 7.

Byte k of a block of n values holds value k in its low half and value k + ceil(n / 2) in its high half, each as
code + 8: both halves of the block are then straight runs. In an odd last block the last high half is empty (8).
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from ops.jit import Bytes, Floats
from ops.kernels_finite import INFINITY, absmax_bits, largest_scale

LEVELS = np.float32(7)
LARGEST_SCALE = largest_scale(7)
OFFSET = np.float32(8)
HIGH = np.float32(16)
OFFSETS = OFFSET + HIGH * OFFSET
# Bits of 7 * 2^-126: a block of smaller absmax is coded as zeros (see kernels_int8).
SMALLEST = (LEVELS * np.finfo(np.float32).tiny).view(np.int32)
EMPTY = np.uint8(0x88)


@register_jitable(forceinline=True)  # type: ignore[untyped-decorator]
def encode_block(x_B: Floats, codes_b: Bytes) -> np.float32:
    """Fill the codes and return the scale, or -1 if x holds a NaN or an infinity."""
    bits = np.int32(absmax_bits(x_B))
    if bits >= INFINITY:
        return np.float32(-1)
    if bits < SMALLEST:
        for i in range(codes_b.size):
            codes_b[i] = EMPTY
        return np.float32(0)
    absmax = bits.view(np.float32)
    inverse = LEVELS / absmax
    low_b = x_B[: codes_b.size]
    high_b = x_B[codes_b.size :]
    for i in range(high_b.size):
        codes_b[i] = np.uint8(np.rint(low_b[i] * inverse) + np.rint(high_b[i] * inverse) * HIGH + OFFSETS)
    if high_b.size < low_b.size:
        codes_b[high_b.size] = np.uint8(np.rint(low_b[high_b.size] * inverse) + OFFSETS)
    return min(absmax / LEVELS, LARGEST_SCALE)


@register_jitable(forceinline=True)  # type: ignore[untyped-decorator]
def decode_block(codes_b: Bytes, scale: np.float32, out_B: Floats) -> None:
    low_b = out_B[: codes_b.size]
    high_b = out_B[codes_b.size :]
    for i in range(low_b.size):
        low_b[i] = (np.float32(codes_b[i] & np.uint8(15)) - OFFSET) * scale
    for i in range(high_b.size):
        high_b[i] = (np.float32(codes_b[i] >> np.uint8(4)) - OFFSET) * scale


@register_jitable(forceinline=True)  # type: ignore[untyped-decorator]
def add_block(codes_b: Bytes, factor: np.float32, accumulator_B: Floats) -> None:
    low_b = accumulator_B[: codes_b.size]
    high_b = accumulator_B[codes_b.size :]
    for i in range(low_b.size):
        low_b[i] += (np.float32(codes_b[i] & np.uint8(15)) - OFFSET) * factor
    for i in range(high_b.size):
        high_b[i] += (np.float32(codes_b[i] >> np.uint8(4)) - OFFSET) * factor
