"""Clipping gradients by their norm, of a model whose gradients are spread over the ranks of a group."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from swarm.train.flat import local_shard
from swarm.train.group import LocalGroup

_EPSILON = 1e-6
"""torch's."""


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], most: float, group: LocalGroup) -> float:
    """Scale all gradients so that their norm over all ranks is `most` at most (0: no limit); returns what it was.

    On one rank these are the bits of `torch.nn.utils.clip_grad_norm_`; that takes shards, too, but holds the GIL for
    all of them (see swarm/train/adamw.py).
    """
    gradients = [local_shard(parameter.grad) for parameter in parameters if parameter.grad is not None]
    if group.world == 1:
        norm = torch.nn.utils.get_total_norm(gradients)
    else:  # each parameter's over all ranks first, as one rank alone would round them
        norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
        norm = torch.linalg.vector_norm(group.sum(norms.square()).sqrt())
    if most:
        scale = torch.clamp(most / (norm + _EPSILON), max=1.0)
        for gradient in gradients:
            gradient.mul_(scale)
    return float(norm)
