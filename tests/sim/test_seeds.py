"""A fixed set of seeded fault schedules. `make test-sim` runs many more; a seed that ever broke a rule belongs here."""

from __future__ import annotations

import pytest

from swarm.simulate.virtual.command import replay_command
from swarm.simulate.virtual.run import Simulation
from swarm.simulate.virtual.settings import Settings

SMALL = [
    Settings(nodes=3 + seed % 7, rounds=4, faults=mix, seed=seed)
    for mix in ("chaos", "churn", "partitions")
    for seed in range(40)
]
STREAMING = [
    Settings(nodes=3 + seed % 7, rounds=8, faults=mix, seed=seed, fragments=2 + seed % 3)
    for mix in ("chaos", "churn", "partitions")
    for seed in range(8)
]
"""Each round averages one fragment of the vector."""
LARGE = [Settings(nodes=64, rounds=3, faults="chaos", seed=seed) for seed in range(2)]

ONCE_BROKEN = [
    Settings(nodes=5, rounds=5, faults="churn", seed=228),  # heard of a commit, and went on from the state before it
    Settings(nodes=8, rounds=5, faults="churn", seed=96),  # drove a round before it had met all others
    Settings(nodes=8, rounds=5, faults="churn", seed=163),  # took an old status for a restart
    Settings(nodes=5, rounds=5, faults="chaos", seed=411),  # had met only one who died
    Settings(nodes=5, rounds=5, faults="chaos", seed=392),  # fetched an older state than its records tell of
    Settings(nodes=8, rounds=5, faults="partitions", seed=684),  # woke up, and held all others for dead
    Settings(nodes=16, rounds=4, faults="chaos", seed=374),  # took those for restarted whom a plan had not reached
    Settings(nodes=16, rounds=4, faults="chaos", seed=653),  # woke up, and committed without a newcomer's vote
]


@pytest.mark.parametrize("settings", [*SMALL, *STREAMING, *LARGE, *ONCE_BROKEN], ids=replay_command)
def test_no_rule_is_broken(settings: Settings) -> None:
    result = Simulation(settings).run()
    assert not result.violation, "\n".join([*result.story, result.violation])
    assert result.rounds >= settings.rounds
