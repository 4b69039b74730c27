"""Faults: seeded, of the kinds that the mix has, and never so many that the run is lost."""

from __future__ import annotations

import pytest

from swarm.simulate.virtual.mixes import MIXES
from swarm.simulate.virtual.run import Simulation
from swarm.simulate.virtual.settings import Settings


@pytest.mark.parametrize("mix", MIXES)
def test_a_mix_has_its_own_kinds_of_faults(mix: str) -> None:
    results = [Simulation(Settings(nodes=5, rounds=4, faults=mix, seed=seed)).run() for seed in range(12)]
    struck = {kind for result in results for kind in result.faults}
    assert [result.violation for result in results] == [""] * 12
    assert struck == set(MIXES[mix].shares)


def test_after_the_last_round_all_is_mended_and_the_swarm_is_one() -> None:
    simulation = Simulation(Settings(nodes=6, rounds=3, faults="partitions", seed=5))
    assert simulation.run().violation == ""
    world = simulation.world
    live = world.live()
    assert world.network.partition is None
    assert not any(node.frozen for node in world.nodes.values() if node.running)
    assert {node.peer for node in live} == set(live[0].core.board.head.view)


def test_every_fault_is_told() -> None:
    simulation = Simulation(Settings(nodes=6, rounds=4, faults="chaos", seed=3))
    faults = simulation.run().faults.total()
    assert 0 < faults < len(simulation.world.chronicle.faults)
