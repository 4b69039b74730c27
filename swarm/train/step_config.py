"""How inner steps are taken: what the run decides, and what each node decides for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from swarm.train.loss import CHUNK
from swarm.train.schedule import Schedule

DEMO_SCHEDULE = Schedule(2e-3, warmup_steps=20)
Precision: TypeAlias = Literal["fp32", "bf16"]
InnerOptimizer: TypeAlias = Literal["adamw", "muon"]

HELD_OUT_TOKENS = 16_384
"""What a node evaluates on, unless told otherwise: a second of work for the demo model."""


@dataclass(frozen=True, slots=True)
class StepConfig:
    """From `[run]`: the same for every node, because it decides what a step computes."""

    batch_size: int = 4
    optimizer: InnerOptimizer = "adamw"
    schedule: Schedule = DEMO_SCHEDULE
    weight_decay: float = 0.1
    grad_clip: float = 1.0  # 0: no limit
    z_loss: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    precision: Precision = "fp32"  # of the computation; parameters, optimizer state and sums are fp32 always
    held_out_tokens: int = HELD_OUT_TOKENS
    fragments: int = 1  # of the flat vector, whose order follows from it


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """From `[node]`: how this machine computes it. No choice here changes a result by more than rounding.

    threads: CPU threads of one rank. micro_batch_size: samples of one forward and backward pass on one rank, 0 for all
    that it has. activation_checkpointing: recompute the activations of every n-th layer, 0 for none. loss_chunk: tokens
    whose logits exist at a time. peak_tflops: bf16 TFLOP/s of one device, if its name does not tell.
    """

    threads: int = 1
    micro_batch_size: int = 0
    activation_checkpointing: int = 0
    compile: bool = False
    cpu_offload: bool = False
    loss_chunk: int = CHUNK
    peak_tflops: float | None = None
