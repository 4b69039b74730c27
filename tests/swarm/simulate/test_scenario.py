"""Which scenarios there are, and what they come to."""

from __future__ import annotations

import pytest

from swarm.config import RunConfig
from swarm.simulate.scenario import Fault, ImpossibleScenario, Scenario


def test_the_demo_has_one_join_and_one_leave() -> None:
    demo = Scenario.demo(4, 10, RunConfig(), "cpu")
    assert demo.faults == (Fault("join", 3, "node4"), Fault("leave", 6, "node3"))
    assert demo.founders == ("node0", "node1", "node2", "node3")


@pytest.mark.parametrize("nodes", range(1, 6))
@pytest.mark.parametrize("rounds", range(1, 14))
def test_the_demo_is_possible_with_any_numbers(nodes: int, rounds: int) -> None:
    demo = Scenario.demo(nodes, rounds, RunConfig(), "cpu")
    assert all(1 <= fault.after < rounds for fault in demo.faults)


def test_faults_come_in_the_order_of_their_rounds_and_never_hit_the_first_node() -> None:
    scenario = Scenario(nodes=3, rounds=9, join_at=5, leave_at=2, kill_at=4)
    assert scenario.faults == (Fault("leave", 2, "node2"), Fault("kill", 4, "node1"), Fault("join", 5, "node3"))


@pytest.mark.parametrize(
    ("numbers", "remedy"),
    [
        ({"nodes": 0}, "--nodes"),
        ({"rounds": 0}, "--rounds"),
        ({"join_at": 10}, "--join-at 10: give a round from 1 to 9, or raise --rounds 10"),
        ({"leave_at": -1}, "--leave-at -1"),
        ({"nodes": 1, "kill_at": 1}, "1 of 1 nodes would go"),
        ({"nodes": 2, "kill_at": 1, "leave_at": 1}, "2 of 2 nodes would go"),
    ],
)
def test_impossible_scenarios_are_refused(numbers: dict[str, int], remedy: str) -> None:
    with pytest.raises(ImpossibleScenario, match=remedy):
        Scenario(**numbers)  # type: ignore[arg-type]


def test_the_run_is_founded_by_all_founders() -> None:
    assert Scenario(nodes=3, run=RunConfig(seed=7)).run_config == RunConfig(seed=7, founders=3)


def test_nodes_share_the_cores() -> None:
    assert Scenario(nodes=4096).threads == 1
    assert Scenario(nodes=1).threads >= 1
