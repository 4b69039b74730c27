from __future__ import annotations

import pytest

from swarm.config import Config, NodeConfig
from swarm.launch import BadLaunch, Launch, as_launched, launch_of

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_a_rank_of_torchrun_knows_itself() -> None:
    assert launch_of(TORCHRUN) == Launch(rank=1, world=4)


@pytest.mark.parametrize("missing", TORCHRUN)
def test_without_a_launcher_there_is_none(missing: str) -> None:
    assert launch_of(TORCHRUN | {missing: ""}) is None
    assert launch_of({}) is None


def test_ranks_on_several_machines_are_no_node() -> None:
    with pytest.raises(BadLaunch, match="--nnodes 1"):
        launch_of(TORCHRUN | {"WORLD_SIZE": "8"})


def test_nonsense_is_named() -> None:
    with pytest.raises(BadLaunch, match="no number"):
        launch_of(TORCHRUN | {"RANK": "first"})


def test_the_launcher_decides_how_many_ranks_there_are() -> None:
    assert as_launched(Config(), Launch(0, 4)).node.local_world_size == 4
    assert as_launched(Config(), None).node.local_world_size == 1
    assert as_launched(Config(node=NodeConfig(local_world_size=4)), Launch(0, 4)).node.local_world_size == 4
    with pytest.raises(BadLaunch, match=r"local_world_size is 2, but torchrun has started 4 ranks"):
        as_launched(Config(node=NodeConfig(local_world_size=2)), Launch(0, 4))
