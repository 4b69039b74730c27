"""Compile, and measure, what a node needs before it needs it."""

from __future__ import annotations

from ops import kernels_finite, kernels_nesterov, packing
from ops.codec import Codec


def warm_up(codec: Codec) -> None:
    """Compile, or load from numba's cache, the kernels of a codec and of the outer step.

    Seconds the first time on a machine, well under a second from the cache: call it in a thread when a node starts. A
    kernel that is called earlier compiles itself; nothing has to wait for this.
    """
    codec.kernels.compile()
    codec.of_means.kernels.compile()
    if codec.feedback is not None:
        codec.feedback.compile()
    kernels_finite.all_finite.compile()
    kernels_nesterov.nesterov.compile()
    packing.cost()
