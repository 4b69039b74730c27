"""What a node learned in a round: where the round started minus where inner training ended."""

from __future__ import annotations

import numpy as np

from ops import kernels_finite
from ops.jit import Floats


def pseudo_gradient(theta_global_P: Floats, theta_local_P: Floats, out_P: Floats) -> None:
    """out = theta_global - theta_local. To send it, `Codec.quantise_difference` needs no such vector."""
    np.subtract(theta_global_P, theta_local_P, out=out_P)


def all_finite(x_P: Floats) -> bool:
    """Whether a contiguous fp32 vector holds no NaN and no infinity; one pass, no temporary, no GIL."""
    assert x_P.dtype == np.float32, x_P.dtype
    assert x_P.ndim == 1
    assert x_P.flags.c_contiguous
    return bool(kernels_finite.all_finite(x_P))
