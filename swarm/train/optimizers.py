"""The inner optimizer."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW, Optimizer

from swarm.train.step_config import StepConfig


def build_optimizer(model: nn.Module, config: StepConfig) -> Optimizer:
    """Of a model that is sharded already: each rank's optimizer holds the state of its own rows."""
    return AdamW(
        model.parameters(), lr=config.schedule.peak, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )
