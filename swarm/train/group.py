"""The process group of a node's local ranks: together they shard one model and are one member of the swarm."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from p2p.errors import SwarmError

Store: TypeAlias = dist.Store  # type: ignore[attr-defined, name-defined]
"""Where the ranks of a process group meet."""

_COLLECTIVE_TIMEOUT = timedelta(hours=2)
"""A rank that hangs is found long before (swarm/train/ranks/watch.py): this only bounds what that misses."""


class NoSuchDevice(SwarmError):
    """The configured device is not on this machine."""


class LocalGroup:
    """This process as one rank of a local group, alone in it unless told otherwise.

    Alone it needs no port, no file and no environment. torch.distributed knows one default group a process, so one
    LocalGroup may be open at a time.
    """

    def __init__(self, device: str = "cpu", rank: int = 0, world: int = 1, store: Store | None = None) -> None:
        """store: where the ranks of a larger group meet; the constructor returns when all have."""
        assert not dist.is_initialized(), "a local group is open already in this process"
        assert store is not None or world == 1, "ranks need a store to meet in"
        self.rank, self.world = rank, world
        self.device = device_of(device, rank, world)
        self.enter_thread()
        dist.init_process_group(
            # parameters that are offloaded are summed on the CPU
            "gloo" if self.device.type == "cpu" else "cpu:gloo,cuda:nccl",
            store=store or dist.HashStore(),  # type: ignore[attr-defined]
            rank=rank,
            world_size=world,
            timeout=_COLLECTIVE_TIMEOUT,
        )
        self.mesh: DeviceMesh = init_device_mesh(self.device.type, (world,))

    def enter_thread(self) -> None:
        """Call first in a thread that trains: the current CUDA device belongs to the thread."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)

    def sum(self, value: Tensor) -> Tensor:
        """`value` summed over all ranks, in place, with the same bits on all of them."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

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


def device_of(name: str, rank: int, world: int) -> torch.device:
    """The device of one rank: the CPU, or one GPU each, from the named one on. Raises NoSuchDevice."""
    device = torch.device(name)
    if device.type == "cpu":
        return device
    first, devices = device.index or 0, torch.cuda.device_count()
    if first + world > devices:
        wanted = name if world == 1 else f"{name} for {world} ranks"
        raise NoSuchDevice(
            f'no device {wanted}: torch sees {devices} CUDA devices here; set device = "cpu" or a smaller '
            "local_world_size in [node], or install the driver and a CUDA build of torch"
        )
    return torch.device("cuda", first + rank)
