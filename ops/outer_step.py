"""The outer optimizer of DiLoCo (arXiv:2311.08105): SGD with Nesterov momentum on the agreed mean, by torch's rule.

    m = mu * m + g;   theta = theta - lr * (g + mu * m)

Strict IEEE fp32: every product and sum is rounded by itself, denormals are kept, and no element depends on another. So
two machines, and any cut of the vectors, give the same bits. Shape suffix: _P any number of values.
"""

from __future__ import annotations

import numpy as np

from ops.encoded import Encoded
from ops.jit import Floats
from ops.kernels_nesterov import SMALLEST_NORMAL, nesterov


class FlushedDenormals(RuntimeError):
    """The thread flushes denormals to zero: its replica would drift away from the others."""


def nesterov_step(theta_P: Floats, momentum_P: Floats, mean_P: Floats, *, lr: float, momentum: float) -> None:
    """One step in place on contiguous fp32 vectors of equal length, without the GIL. Raises FlushedDenormals."""
    _require(mean_P.size, theta_P, momentum_P, mean_P)
    _done(nesterov(theta_P, momentum_P, mean_P, np.float32(lr), np.float32(momentum), SMALLEST_NORMAL))


def nesterov_step_encoded(theta_P: Floats, momentum_P: Floats, mean: Encoded, *, lr: float, momentum: float) -> None:
    """`mean.codec.decode` and `nesterov_step` in one pass, without storing the decoded mean: the same bits."""
    _require(mean.count, theta_P, momentum_P)
    step = mean.codec.kernels.nesterov
    _done(step(theta_P, momentum_P, mean.scales_B, mean.codes, np.float32(lr), np.float32(momentum), SMALLEST_NORMAL))


def _require(count: int, *vectors_P: Floats) -> None:
    for x_P in vectors_P:
        assert x_P.dtype == np.float32, x_P.dtype
        assert x_P.shape == (count,), (x_P.shape, count)
        assert x_P.flags.c_contiguous


def _done(done: bool) -> None:
    if not done:
        raise FlushedDenormals(
            "this thread flushes denormal numbers to zero, so its parameters would differ from everybody else's: "
            "do not call torch.set_flush_denormal(True), nor load libraries built with -ffast-math"
        )
