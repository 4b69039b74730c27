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
LARGE = [Settings(nodes=64, rounds=3, faults="chaos", seed=seed) for seed in range(2)]

ONCE_BROKEN = [
    Settings(nodes=8, rounds=4, faults="chaos", seed=26),  # a status sent to oneself
    Settings(nodes=4, rounds=4, faults="chaos", seed=64),  # left out for good, with min_peers above one
    Settings(nodes=8, rounds=4, faults="churn", seed=75),  # behind, and fetched from those who were behind, too
    Settings(nodes=5, rounds=4, faults="churn", seed=114),  # committed alone what others had committed
    Settings(nodes=5, rounds=4, faults="chaos", seed=170),  # a link that came back at once was a death
    Settings(nodes=8, rounds=4, faults="chaos", seed=5),  # old and new codes of a restarted member in one mean
]


@pytest.mark.parametrize("settings", [*SMALL, *LARGE, *ONCE_BROKEN], ids=replay_command)
def test_no_rule_is_broken(settings: Settings) -> None:
    result = Simulation(settings).run()
    assert not result.violation, "\n".join([*result.story, result.violation])
    assert result.rounds >= settings.rounds
