"""Largest magnitude of a block, on the bits of its floats.

The bits of a non-negative IEEE float order like the float itself, with infinity and then NaN on top: one integer
maximum finds the scale of a block and its NaN and Inf at once, and vectorises, which a float maximum does not.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from ops.jit import BOOL, FLOATS_IN, Floats, kernel

BLOCK = 4096
INFINITY = np.int32(0x7F800000)
MAGNITUDE = np.int32(0x7FFFFFFF)


def largest_scale(levels: int) -> np.float32:
    """The largest scale with which the code `levels` decodes to a finite float."""
    largest = np.finfo(np.float32).max
    scale = np.float32(largest / np.float32(levels))
    # The quotient may have been rounded up; in fp64 the product is exact.
    return scale if float(scale) * levels <= float(largest) else np.nextafter(scale, np.float32(0))


@register_jitable(forceinline=True)  # type: ignore[untyped-decorator]
def absmax_bits(x_B: Floats) -> np.int32:
    """Bits of max |x|; INFINITY or above if there is an infinity or a NaN; 0 for an empty block."""
    bits_B = x_B.view(np.int32)
    top = np.int32(0)
    for i in range(bits_B.size):
        top = max(top, np.int32(bits_B[i] & MAGNITUDE))
    return np.int32(top)


@kernel(BOOL(FLOATS_IN), "all_finite")
def all_finite(x_P: Floats) -> bool:
    for start in range(0, x_P.size, BLOCK):  # noqa: SIM110 - numba compiles no generator
        if absmax_bits(x_P[start : start + BLOCK]) >= INFINITY:
            return False
    return True
