"""Exhaustive: whoever dies, alone or in a pair, before or after any message: survivors commit the same record."""

from __future__ import annotations

import itertools

import pytest

from tests.sim.schedules import moments_of_a_round, seconds_to_commit

DETECTION_AND_REPAIR_SECONDS = 12.0

VICTIMS = [
    *((3, (victim,)) for victim in range(3)),
    *((4, (victim,)) for victim in range(4)),
    *((4, pair) for pair in itertools.combinations(range(4), 2)),
]


@pytest.mark.parametrize(("nodes", "victims"), VICTIMS, ids=str)
def test_death_at_every_moment_of_a_round(nodes: int, victims: tuple[int, ...]) -> None:
    seed = sum(victims)
    moments = moments_of_a_round(nodes, seed, "lan")
    assert moments > 20 * nodes
    for moment in range(moments):
        took = seconds_to_commit(nodes, seed, "lan", victims, moment)
        assert took < DETECTION_AND_REPAIR_SECONDS, moment
