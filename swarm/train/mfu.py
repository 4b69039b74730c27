"""Model FLOPs utilisation: what part of the devices' arithmetic the training of a model needs, as PaLM counts it."""

from __future__ import annotations

import torch

from swarm.model.sizes import ModelConfig

PEAK_BF16_TFLOPS = {
    "GB200": 2500,
    "B200": 2250,
    "GH200": 989,
    "H200 NVL": 835,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "H800": 989,
    "A100": 312,
    "A800": 312,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "A40": 150,
    "A10G": 70,
    "A10": 125,
    "RTX A6000": 155,
    "RTX 6000 Ada": 364,
    "RTX 5090": 210,
    "RTX 4090": 165,
    "RTX 3090": 71,
    "MI325X": 1307,
    "MI300X": 1307,
    "MI250X": 383,
}
"""Dense bf16 with fp32 accumulation, by the makers' data sheets; the first name that is part of the device's counts."""


def flops_per_token(model: ModelConfig, parameters: int, sequence_length: int) -> float:
    """Forward and backward pass for one token: 6 N + 12 L H Q T (PaLM, arXiv:2204.02311, appendix B).

    N are the parameters that are multiplied with: all but an embedding that is only looked up. The second term is
    attention over the whole sequence, as if nothing were masked; what is recomputed does not count.
    """
    looked_up = 0 if model.tied else model.vocab * model.dim
    return 6.0 * (parameters - looked_up) + 12.0 * model.layers * model.heads * model.head_dim * sequence_length


def peak_flops(device: torch.device, tflops: float | None = None) -> float | None:
    """Of one device, FLOP/s in bf16; `tflops` if given, None if nobody knows it (as that of a CPU)."""
    if tflops is None and device.type == "cuda":
        tflops = known_tflops(torch.cuda.get_device_name(device))
    return None if tflops is None else tflops * 1e12


def known_tflops(name: str) -> float | None:
    """By the name that the driver gives a device."""
    return next((float(tflops) for known, tflops in PEAK_BF16_TFLOPS.items() if known.lower() in name.lower()), None)
