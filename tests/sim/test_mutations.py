"""The simulator catches faults: each of these, put into the protocol, breaks a rule within a few seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2p.protocol.pieces import PieceSize
from swarm.simulate.virtual.run import Simulation
from swarm.simulate.virtual.settings import Settings
from tests.sim.mutations import MUTATIONS, Mutation

SEEDS = 400
QUICK = Settings(rounds=4, pieces=PieceSize(smallest=1024, largest=1 << 20, per_span=2))


def schedule(seed: int) -> Settings:
    return replace(QUICK, nodes=4 + seed % 3, faults=("churn", "chaos", "partitions")[seed % 3], seed=seed)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_the_simulator_catches(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    first = MUTATIONS[mutation]
    seeds = (first, *(seed for seed in range(SEEDS) if seed != first))
    mutation(monkeypatch)
    assert any(Simulation(schedule(seed)).run().violation for seed in seeds)


def test_without_a_mutation_these_seeds_break_nothing() -> None:
    for seed in sorted({*MUTATIONS.values()}):
        assert Simulation(schedule(seed)).run().violation == ""
