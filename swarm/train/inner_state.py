"""An optimizer's memory as flat vectors, and back: what a checkpoint keeps of inner training.

Each rank copies its own rows, as it does with the parameters, so a state may come back into a group of another size.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ops.layout import FlatLayout
from swarm.train.flat import local_shard
from swarm.train.group import LocalGroup


def optimizer_vectors(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """Names of all that is kept a parameter (AdamW: exp_avg, exp_avg_sq); none before the first step."""
    states = optimizer.state.items()
    names = {key for parameter, state in states for key, value in state.items() if _is_vector(value, parameter)}
    return tuple(sorted(names))


def _is_vector(value: object, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def store_optimizer(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    layout: FlatLayout,
    group: LocalGroup,
    vector: Callable[[str], NDArray[np.float32]],
) -> None:
    """Copy this rank's rows of each of the `optimizer_vectors` into `vector(name)`."""
    for name, parameter in model.named_parameters():
        start, stop = layout.entry(name).shard(group.rank, group.world)
        for key, value in optimizer.state.get(parameter, {}).items():
            if _is_vector(value, parameter):
                torch.from_numpy(vector(key)[start:stop]).copy_(local_shard(value).reshape(-1))


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    layout: FlatLayout,
    group: LocalGroup,
    vectors: Mapping[str, NDArray[np.float32]],
    steps: int,
) -> None:
    """Inverse of `store_optimizer`: as if the optimizer had taken `steps` steps and kept this rank's rows of these."""
    own = {parameter for settings in optimizer.param_groups for parameter in settings["params"]}
    for name, parameter in model.named_parameters():
        if parameter not in own:
            continue
        start, stop = layout.entry(name).shard(group.rank, group.world)
        state: dict[str, Tensor] = {"step": torch.tensor(float(steps), device=group.device)}
        for key, values_P in vectors.items():
            state[key] = torch.zeros_like(parameter)
            local_shard(state[key]).view(-1).copy_(torch.from_numpy(values_P[start:stop]))
        optimizer.state[parameter] = state
