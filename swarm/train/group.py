"""The node's local FSDP2 group: its ranks shard one model and are one member of the swarm.

The network sees a flat fp32 vector in the order of the model's named parameters. Rank r owns, of every parameter, the
rows that FSDP2's dim-0 sharding gives it; each rank copies its own rows, so nothing is ever gathered.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from ops.layout import FlatLayout, rows_of_rank
from p2p.errors import SwarmError
from swarm.model.llama import Llama
from swarm.model.sizes import ModelConfig

_COLLECTIVE_TIMEOUT = timedelta(seconds=60)


class NoSuchDevice(SwarmError):
    """The configured device is not on this machine."""


class LocalGroup:
    """A process group of this process alone, formed from a store in its memory: no port, no file, no environment.

    torch.distributed knows one default group a process, so one LocalGroup may be open at a time.
    """

    def __init__(self, device: str = "cpu") -> None:
        assert not dist.is_initialized(), "a local group is open already in this process"
        self.device = _usable(device)
        self.enter_thread()
        self.rank, self.world = 0, 1
        backend = "gloo" if self.device.type == "cpu" else "nccl"
        dist.init_process_group(
            backend,
            store=dist.HashStore(),  # type: ignore[attr-defined]
            rank=self.rank,
            world_size=self.world,
            timeout=_COLLECTIVE_TIMEOUT,
        )
        self.mesh: DeviceMesh = init_device_mesh(self.device.type, (self.world,))

    def enter_thread(self) -> None:
        """Call first in a thread that trains: the current CUDA device belongs to the thread."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)

    def close(self) -> None:
        """Destroy the group; it may be formed again in the same process."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def __enter__(self) -> LocalGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def sharded_model(self, config: ModelConfig) -> Llama:
        """A Llama of that size, sharded layer by layer, its parameters allocated but not set (see load_flat)."""
        with torch.device("meta"):
            model = Llama(config)
        for layer in model.layers:
            fully_shard(layer, mesh=self.mesh)
        fully_shard(model, mesh=self.mesh)
        model.to_empty(device=self.device)
        return model


def _usable(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cpu":
        return device
    index, devices = device.index or 0, torch.cuda.device_count()
    if index >= devices:
        raise NoSuchDevice(
            f'no device {name}: torch sees {devices} CUDA devices here; set device = "cpu" in [node], '
            "or install the driver and a CUDA build of torch"
        )
    return torch.device("cuda", index)


def layout_of(model: nn.Module) -> FlatLayout:
    """Names and full shapes of a model's parameters, in order; the same for every sharding (meta tensors do)."""
    return FlatLayout.of([(name, tuple(parameter.shape)) for name, parameter in model.named_parameters()])


def store_flat(model: nn.Module, layout: FlatLayout, group: LocalGroup, out_P: NDArray[np.float32]) -> None:
    """Copy this rank's rows of every parameter into the flat vector."""
    for flat_P, local_P in _rows(model, layout, group, out_P):
        torch.from_numpy(flat_P).copy_(local_P)


def load_flat(model: nn.Module, layout: FlatLayout, group: LocalGroup, theta_P: NDArray[np.float32]) -> None:
    """Set this rank's rows of every parameter from the flat vector, which is only read."""
    for flat_P, local_P in _rows(model, layout, group, theta_P):
        if local_P.device.type == "cpu":
            np.copyto(local_P.numpy(), flat_P)
        else:
            local_P.copy_(torch.from_numpy(flat_P if flat_P.flags.writeable else flat_P.copy()))


def local_shard(tensor: Tensor) -> Tensor:
    """The part of a parameter or gradient that lies on this rank, without autograd."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def _rows(
    model: nn.Module, layout: FlatLayout, group: LocalGroup, flat_P: NDArray[np.float32]
) -> list[tuple[NDArray[np.float32], Tensor]]:
    """(slice of the flat vector, this rank's local values of it) for every parameter that has rows here."""
    assert flat_P.shape == (layout.count,), "not a flat vector of this model"
    assert flat_P.dtype == np.float32, "the flat vector is fp32"
    pairs = []
    for name, parameter in model.named_parameters():
        entry = layout.entry(name)
        row = (entry.stop - entry.start) // entry.shape[0]
        first, last = rows_of_rank(entry.shape[0], group.rank, group.world)
        assert isinstance(parameter, DTensor), f"{name} is gathered: reshard() the model before its shards are touched"
        local_P = local_shard(parameter).view(-1)
        assert local_P.numel() == (last - first) * row, f"{name}: the shard is not the rows of rank {group.rank}"
        if last > first:
            pairs.append((flat_P[entry.start + first * row : entry.start + last * row], local_P))
    return pairs
