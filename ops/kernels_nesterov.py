"""SGD with Nesterov momentum on flat vectors, as separate IEEE fp32 multiplications and additions.

Each element is computed by itself, so any cut of the vector gives the same bits, and so does any machine whose threads
keep denormals; `denormals_kept` tells.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from ops.jit import BOOL, FLOAT, FLOATS_IN, FLOATS_OUT, Floats, kernel

SMALLEST_NORMAL = np.finfo(np.float32).tiny


@register_jitable(forceinline=True)  # type: ignore[untyped-decorator]
def denormals_kept(smallest_normal: np.float32) -> bool:
    """Whether this thread computes with denormals (the argument is no constant, or the compiler would answer)."""
    return bool(smallest_normal * np.float32(0.5) != np.float32(0))


@register_jitable(forceinline=True)  # type: ignore[untyped-decorator]
def step_block(theta_B: Floats, momentum_B: Floats, gradient_B: Floats, lr: np.float32, mu: np.float32) -> None:
    """m = mu * m + g; theta = theta - lr * (g + mu * m): torch.optim.SGD(nesterov=True, dampening=0)."""
    for i in range(theta_B.size):
        m = mu * momentum_B[i] + gradient_B[i]
        momentum_B[i] = m
        theta_B[i] -= lr * (gradient_B[i] + mu * m)


@kernel(BOOL(FLOATS_OUT, FLOATS_OUT, FLOATS_IN, FLOAT, FLOAT, FLOAT), "nesterov")
def nesterov(
    theta_P: Floats, momentum_P: Floats, mean_P: Floats, lr: np.float32, mu: np.float32, smallest_normal: np.float32
) -> bool:
    """The step on whole vectors; False, and nothing done, in a thread that flushes denormals to zero."""
    if not denormals_kept(smallest_normal):
        return False
    step_block(theta_P, momentum_P, mean_P, lr, mu)
    return True
