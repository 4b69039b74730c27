"""What the optimizers remember as flat vectors, and back: what a checkpoint keeps of inner training.

Each rank copies its own rows, as it does with the parameters, so a state may come back into a group of another size.
A vector is zero where the optimizer of a parameter does not keep it (Muon: exp_avg_sq).

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from ops.layout import FlatLayout
from swarm.train.flat import local_shard
from swarm.train.group import LocalGroup
from swarm.train.optimizers import keeps


def optimizer_vectors(optimizers: Sequence[Optimizer]) -> tuple[str, ...]:
    """Names of all that is kept a parameter (AdamW: exp_avg, exp_avg_sq); none before the first step."""
    return tuple(sorted({name for optimizer in optimizers if optimizer.state for name in keeps(optimizer)}))


def store_optimizers(
    optimizers: Sequence[Optimizer],
    model: nn.Module,
    layout: FlatLayout,
    group: LocalGroup,
    vector: Callable[[str], NDArray[np.float32]],
) -> None:
    """Copy this rank's rows of each of the `optimizer_vectors` into `vector(name)`, which holds zeros."""
    for optimizer, parameter, start, stop in _owned(optimizers, model, layout, group):
        if state := optimizer.state.get(parameter):
            for key in keeps(optimizer):
                torch.from_numpy(vector(key)[start:stop]).copy_(local_shard(state[key]).reshape(-1))


def load_optimizers(
    optimizers: Sequence[Optimizer],
    model: nn.Module,
    layout: FlatLayout,
    group: LocalGroup,
    vectors: Mapping[str, NDArray[np.float32]],
    steps: int,
) -> None:
    """Inverse of `store_optimizers`: as if they had taken `steps` steps and kept this rank's rows of these.

    An optimizer of which nothing was kept, because it had taken no step yet, begins anew.
    """
    for optimizer, parameter, start, stop in _owned(optimizers, model, layout, group):
        if not vectors.keys() >= set(keeps(optimizer)):
            continue
        state: dict[str, Tensor] = {"step": torch.tensor(float(steps), device=local_shard(parameter).device)}
        for key in keeps(optimizer):
            state[key] = torch.zeros_like(parameter)
            local_shard(state[key]).view(-1).copy_(torch.from_numpy(vectors[key][start:stop]))
        optimizer.state[parameter] = state


def _owned(
    optimizers: Sequence[Optimizer], model: nn.Module, layout: FlatLayout, group: LocalGroup
) -> Iterator[tuple[Optimizer, Tensor, int, int]]:
    """Every parameter with its optimizer, and where this rank's rows of it are in a flat vector."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for settings in optimizer.param_groups:
            for parameter in settings["params"]:
                yield optimizer, parameter, *layout.entry(names[id(parameter)]).shard(group.rank, group.world)
