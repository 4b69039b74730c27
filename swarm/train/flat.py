"""Between a rank's shards and the flat vector, which is all that the network sees.

The flat vector is fp32, in the order of the model's named parameters, or strided by layers where a run averages a
fragment of it a round (swarm/model/fragments.py). Rank r owns, of every parameter, the rows that
FSDP2's dim-0 sharding gives it; each rank copies its own rows to or from the one vector of the node, so nothing is ever
gathered and no rank holds a copy.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ops.layout import FlatLayout
from swarm.model.fragments import place
from swarm.train.group import LocalGroup

SHIFTED_VALUES = 1 << 18
"""Values moved at a time: they stay in the cache, and a copy of a device's is small."""


def layout_of(model: nn.Module, fragments: int = 1) -> FlatLayout:
    """Where a run with so many fragments has a model's parameters; the same for every sharding (meta tensors do)."""
    parameters = [(name, tuple(parameter.shape)) for name, parameter in model.named_parameters()]
    return FlatLayout.of(parameters, partial(place, fragments=fragments))


def store_flat(model: nn.Module, layout: FlatLayout, group: LocalGroup, out_P: NDArray[np.float32]) -> None:
    """Copy this rank's rows of every parameter into the flat vector."""
    for flat_P, local_P in _rows(model, layout, group, out_P):
        if local_P.device.type == "cpu":
            np.copyto(flat_P, local_P.numpy())  # torch would wake its threads for it
        else:
            torch.from_numpy(flat_P).copy_(local_P)


def load_flat(model: nn.Module, layout: FlatLayout, group: LocalGroup, theta_P: NDArray[np.float32]) -> None:
    """Set this rank's rows of every parameter from the flat vector, which is only read."""
    for flat_P, local_P in _rows(model, layout, group, theta_P):
        if local_P.device.type == "cpu":
            np.copyto(local_P.numpy(), flat_P)
        else:
            local_P.copy_(torch.from_numpy(flat_P if flat_P.flags.writeable else flat_P.copy()))


def swap_flat(model: nn.Module, layout: FlatLayout, group: LocalGroup, other_P: NDArray[np.float32]) -> None:
    """Exchange this rank's rows of every parameter with those in the flat vector, one parameter after the other."""
    for flat_P, local_P in _rows(model, layout, group, other_P):
        there_P = torch.from_numpy(flat_P)
        before_P = local_P.to("cpu", copy=True)
        local_P.copy_(there_P)
        there_P.copy_(before_P)


def shift_flat(
    model: nn.Module,
    layout: FlatLayout,
    group: LocalGroup,
    from_P: NDArray[np.float32],
    to_P: NDArray[np.float32],
    weight: float,
    span: tuple[int, int],
) -> None:
    """Set this rank's values in [start, stop) of the vector to to_P + weight x (what they are - from_P); from_P and
    to_P are only read."""
    rows = (_rows(model, layout, group, x_P, span) for x_P in (from_P, to_P))
    for (here_P, local_P), (there_P, _) in zip(*rows, strict=True):
        for start in range(0, here_P.size, SHIFTED_VALUES):
            piece = slice(start, start + SHIFTED_VALUES)
            moved_P = local_P[piece].cpu().numpy()  # what lies in this memory is moved in place
            moved_P -= here_P[piece]
            moved_P *= np.float32(weight)
            moved_P += there_P[piece]
            if local_P.device.type != "cpu":
                local_P[piece].copy_(torch.from_numpy(moved_P))


def local_shard(tensor: Tensor) -> Tensor:
    """The part of a parameter or gradient that lies on this rank, without autograd."""
    with torch.no_grad():  # a third of the time
        return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def _rows(
    model: nn.Module,
    layout: FlatLayout,
    group: LocalGroup,
    flat_P: NDArray[np.float32],
    span: tuple[int, int] | None = None,
) -> Iterator[tuple[NDArray[np.float32], Tensor]]:
    """(slice of the flat vector, this rank's local values of it) for every parameter that has rows here, in `span`."""
    assert flat_P.shape == (layout.count,), "not a flat vector of this model"
    assert flat_P.dtype == np.float32, "the flat vector is fp32"
    for name, parameter in model.named_parameters():
        assert isinstance(parameter, DTensor), f"{name} is gathered: reshard() the model before its shards are touched"
        start, stop = layout.entry(name).shard(group.rank, group.world)
        local_P = local_shard(parameter).view(-1)
        assert local_P.numel() == stop - start, f"{name}: the shard is not the rows of rank {group.rank}"
        low, high = (start, stop) if span is None else (max(start, span[0]), min(stop, span[1]))
        if high > low:
            yield flat_P[low:high], local_P[low - start : high - start]
