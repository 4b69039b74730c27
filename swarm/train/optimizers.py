"""The inner optimizers: AdamW for everything, or Muon for the hidden matrices and AdamW for the rest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from swarm.model.llama import Llama
from swarm.train.adamw import ShardedAdamW
from swarm.train.group import LocalGroup
from swarm.train.muon import Muon
from swarm.train.step_config import StepConfig


def build_optimizers(model: Llama, config: StepConfig, group: LocalGroup) -> tuple[Optimizer, ...]:
    """Of a model that is sharded already: each rank's optimizers hold the state of its own rows.

    Every parameter belongs to one of them. Hidden are the matrices of the layers: not the embedding, not the output.
    """
    hidden = _hidden_matrices(model) if config.optimizer == "muon" else []
    own = {id(matrix) for matrix in hidden}
    lr, decay = config.schedule.peak, config.weight_decay
    rest = [parameter for parameter in model.parameters() if id(parameter) not in own]
    adamw = ShardedAdamW(rest, lr=lr, betas=config.betas, weight_decay=decay)
    if not hidden:
        return (adamw,)
    dtype = torch.float32 if config.precision == "fp32" else torch.bfloat16
    return adamw, Muon(hidden, group, lr=lr, weight_decay=decay, dtype=dtype)


def _hidden_matrices(model: Llama) -> list[Tensor]:
    return [parameter for parameter in model.layers.parameters() if parameter.ndim == 2]


def keeps(optimizer: Optimizer) -> tuple[str, ...]:
    """Names of what it keeps for each of its parameters, from its first step on."""
    assert isinstance(optimizer, ShardedAdamW | Muon)
    return optimizer.KEEPS
