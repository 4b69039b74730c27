"""Whether a launcher has started this process as one rank of a node.

    torchrun --nproc-per-node 4 -m swarm node --config swarm.toml

Rank 0 of torchrun is the node, the others are its local ranks. A node needs no launcher; this is for places where one
starts everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from p2p.errors import SwarmError
from swarm.config import Config

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_STORE = ("MASTER_ADDR", "MASTER_PORT")


class BadLaunch(SwarmError):
    """A launcher's environment that does not describe one node, or not the configured one."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What torchrun has told this process."""

    rank: int
    world: int


def launch_of(environment: Mapping[str, str]) -> Launch | None:
    """None for a process that no launcher has started. Raises BadLaunch."""
    if not all(environment.get(name) for name in (*_NUMBERS, *_STORE)):
        return None
    try:
        rank, world, here = (int(environment[name]) for name in _NUMBERS)
    except ValueError:
        raise BadLaunch(f"one of {', '.join(_NUMBERS)} is no number: unset them if no launcher is meant") from None
    if here != world:
        raise BadLaunch(
            f"torchrun has started {world} ranks, {here} of them here: a node is one machine, so start one torchrun "
            "with --nnodes 1 on each; the nodes find each other"
        )
    return Launch(rank, world)


def as_launched(config: Config, launch: Launch | None) -> Config:
    """The configuration with as many local ranks as there are. Raises BadLaunch."""
    if launch is None or config.node.local_world_size == launch.world:
        return config
    if config.node.local_world_size != 1:
        raise BadLaunch(
            f"local_world_size is {config.node.local_world_size}, but torchrun has started {launch.world} ranks: "
            "leave it out, or give torchrun the same number as --nproc-per-node"
        )
    return config.model_copy(update={"node": config.node.model_copy(update={"local_world_size": launch.world})})
