"""The same bits from the same training on the same machine."""

from __future__ import annotations

import os

import torch


def be_deterministic() -> None:
    """From now on, in this process: the same seed gives the same losses to the bit, with the same settings, devices and
    versions. Call it before the process group is formed.

    torch takes deterministic kernels where it has a choice (on a CPU it hardly has one) and raises where there is none.
    On CUDA cuBLAS gets a workspace of fixed size, which it needs for that, and NCCL does not let the NVLink switch add
    (NVLS), whose order is not fixed. Both variables stay as they are if they are set. See "Reproducibility" in torch's
    documentation.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("NCCL_ALGO", "^NVLS")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
