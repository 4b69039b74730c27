"""Which scenarios there are, and what they come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.config import NodeConfig, RunConfig
from swarm.simulate.faults import BadFaults, Chaos, Fault, FaultScript
from swarm.simulate.scenario import ImpossibleScenario, Scenario, shorthands


def told(scenario: Scenario) -> list[tuple[str, str | None, int | None]]:
    return [(fault.kind, fault.node, fault.after_round) for fault in scenario.script.faults]


def test_the_demo_has_one_join_and_one_leave() -> None:
    demo = Scenario.demo(4, 10, RunConfig(), NodeConfig())
    assert told(demo) == [("join", "node4", 3), ("leave", "node3", 6)]
    assert demo.founders == ("node0", "node1", "node2", "node3")


@pytest.mark.parametrize("nodes", range(1, 6))
@pytest.mark.parametrize("rounds", range(1, 14))
def test_the_demo_is_possible_with_any_numbers(nodes: int, rounds: int) -> None:
    demo = Scenario.demo(nodes, rounds, RunConfig(), NodeConfig())
    assert all(after is not None and 1 <= after < rounds for _, _, after in told(demo))


def test_the_options_never_hit_the_first_node() -> None:
    scenario = Scenario(nodes=3, rounds=9, script=FaultScript(faults=shorthands(3, 9, 5, 2, 4)))
    assert told(scenario) == [("join", "node3", 5), ("kill", "node1", 4), ("leave", "node2", 2)]


@pytest.mark.parametrize(
    ("nodes", "rounds", "options", "remedy"),
    [
        (0, 10, {}, "--nodes"),
        (4, 0, {}, "--rounds"),
        (4, 10, {"join_at": 10}, "--join-at 10: give a round from 1 to 9, or raise --rounds 10"),
        (4, 10, {"leave_at": -1}, "--leave-at -1"),
        (1, 10, {"kill_at": 1}, "1 of 1 nodes would go"),
        (2, 10, {"kill_at": 1, "leave_at": 1}, "2 of 2 nodes would go"),
    ],
)
def test_impossible_scenarios_are_refused(nodes: int, rounds: int, options: dict[str, int], remedy: str) -> None:
    numbers = {"join_at": None, "leave_at": None, "kill_at": None} | options
    with pytest.raises((ImpossibleScenario, BadFaults), match=remedy):
        Scenario(nodes, rounds, FaultScript(faults=shorthands(nodes, rounds, **numbers)))


def test_chaos_lasts_for_its_seconds_and_has_room_for_the_founders() -> None:
    chaos = FaultScript(chaos=Chaos(seconds=60.0, nodes=4))
    assert Scenario(nodes=4, rounds=None, script=chaos).threads >= 1
    with pytest.raises(ImpossibleScenario, match="leave out --rounds"):
        Scenario(nodes=4, rounds=10, script=chaos)
    with pytest.raises(BadFaults, match="raise its nodes, or lower --nodes 5"):
        Scenario(nodes=5, rounds=None, script=chaos)


def test_a_clock_is_wrong_as_the_script_says_or_as_the_dice_do() -> None:
    chaos = Chaos(seconds=60.0, clock=300.0, seed=4)
    scenario = Scenario(rounds=None, script=FaultScript(chaos=chaos, clock={"node1": -20.0}))
    assert scenario.clock_of("node1") == -20.0
    drawn = [scenario.clock_of(f"node{index}") for index in range(2, 50)]
    assert all(abs(seconds) <= 300 for seconds in drawn)
    assert max(drawn) > 200
    assert min(drawn) < -200
    assert scenario.clock_of("node7") == scenario.clock_of("node7")
    assert Scenario().clock_of("node0") == 0.0


def test_only_a_cut_parts_nodes() -> None:
    cut = Fault(kind="cut", at=1.0, between=(("node0",), ("others",)))
    assert Scenario(script=FaultScript(faults=(cut,))).partitions
    assert not Scenario().partitions


def test_the_run_is_founded_by_all_founders() -> None:
    assert Scenario(nodes=3, run=RunConfig(seed=7)).run_config == RunConfig(seed=7, founders=3)


def test_nodes_share_the_cores() -> None:
    assert Scenario(nodes=4096).threads == 1
    assert Scenario(nodes=1).threads >= 1


def test_the_example_script_is_possible() -> None:
    from swarm.simulate.faults import load_faults

    script = load_faults(Path(__file__).parents[3] / "docs" / "faults.toml")
    scenario = Scenario(nodes=4, rounds=20, script=script)
    assert {fault.kind for fault in scenario.script.faults} >= {"kill", "freeze", "restart", "join", "leave"}
