"""What a fault script may say, and what it is told when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.simulate.faults import BadFaults, Chaos, Fault, FaultScript, check_faults, load_faults, named

FOUNDERS = ("node0", "node1", "node2")


def load(tmp_path: Path, text: str) -> FaultScript:
    file = tmp_path / "faults.toml"
    file.write_text(text)
    return load_faults(file)


def test_a_whole_script(tmp_path: Path) -> None:
    script = load(
        tmp_path,
        """
        [[fault]]
        after_round = 3
        kind = "kill"
        node = "coordinator"

        [[fault]]
        at = 12.5
        kind = "cut"
        between = [["node0"], ["node1", "node2"]]
        seconds = 8

        [chaos]
        seconds = 600
        every = [1, 2.5]
        nodes = 6

        [clock]
        node1 = -300
        """,
    )
    kill, cut = script.faults
    assert (kill.kind, kill.node, kill.after_round, kill.at) == ("kill", "coordinator", 3, None)
    assert (cut.between, cut.seconds, cut.when) == ((("node0",), ("node1", "node2")), 8.0, "at 12.5 s")
    assert script.chaos == Chaos(seconds=600.0, every=(1.0, 2.5), nodes=6)
    assert script.clock == {"node1": -300.0}
    check_faults(script, FOUNDERS, None)


KILL = '[[fault]]\nkind = "kill"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[fault]", "not TOML"),
        ("[[fautl]]\nat = 1", "fautl: unknown key"),
        (KILL + 'node = "node1"', "fault 1: say when: either at = SECONDS or after_round = ROUND"),
        (KILL + 'node = "node1"\nat = 1\nafter_round = 1', "fault 1: say when"),
        (KILL + "at = 1", "fault 1: say whom: node = a name, or one of coordinator, newcomer, random, bootstrap"),
        (KILL + 'at = 1\nnode = "node1"\nseconds = 3', "fault 1: a kill does not last: leave out seconds"),
        (KILL + 'at = "1"\nnode = "node1"', "fault 1 at: Input should be a valid number"),
        (KILL + 'at = -1\nnode = "node1"', "fault 1 at: Input should be greater than or equal to 0"),
        (KILL + 'at = 1\nnode = "Node 1"', "fault 1 node: String should match"),
        ('[[fault]]\nkind = "explode"\nat = 1', "fault 1 kind: Input should be 'join', 'leave', 'kill'"),
        ('[[fault]]\nkind = "freeze"\nnode = "node1"\nat = 1', "say for how long: seconds = ..."),
        ('[[fault]]\nkind = "join"\nnode = "random"\nat = 1', "a node cannot be called random"),
        ('[[fault]]\nkind = "cut"\nat = 1', "a cut, and nothing else, has two sides"),
        ('[[fault]]\nkind = "cut"\nat = 1\nbetween = [["node0"], []]', "has two sides"),
        ('[[fault]]\nkind = "cut"\nat = 1\nnode = "node0"', "a cut has no node"),
        ("[chaos]", "chaos seconds: Field required"),
        ("[chaos]\nseconds = 9\nstart = 0\nkill = 0\nfreeze = 0", "chaos: nothing would happen"),
        ("[chaos]\nseconds = 9\nnodes = 2", "chaos: least = 2 leaves no room below nodes = 2"),
        ("[chaos]\nseconds = 9\nevery = [5, 2]", "chaos: every and freeze_seconds are [least, most]"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BadFaults) as caught:
        load(tmp_path, text)
    assert complaint in str(caught.value)
    assert str(tmp_path / "faults.toml") in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadFaults, match="No such file or directory; give an existing file to --faults"):
        load_faults(tmp_path / "nothing.toml")


def kill(node: str, **when: float) -> Fault:
    return Fault.model_validate({"kind": "kill", "node": node} | (when or {"at": 1.0}))


@pytest.mark.parametrize(
    ("faults", "complaint"),
    [
        ((kill("node7"),), "the kill at 1 s: nobody is called node7; there are node0, node1, node2"),
        ((kill("others"),), "nobody is called others"),
        ((kill("node0", after_round=9),), "after round 9: give a round from 1 to 8, or raise --rounds 9"),
        ((kill("node0"), kill("random"), kill("random")), "3 of 3 nodes would go"),
        ((Fault(kind="cut", at=1.0, between=(("node0",), ("node9",))),), "the cut at 1 s: nobody is called node9"),
    ],
)
def test_what_cannot_happen_is_refused(faults: tuple[Fault, ...], complaint: str) -> None:
    with pytest.raises(BadFaults, match=complaint):
        check_faults(FaultScript(faults=faults), FOUNDERS, 9)


def test_a_wrong_clock_needs_an_owner() -> None:
    check_faults(FaultScript(clock={"bootstrap": 3.0, "node2": 4.0}), FOUNDERS, 9)
    with pytest.raises(BadFaults, match=r"\[clock\] node3: nobody is called so"):
        check_faults(FaultScript(clock={"node3": 3.0}), FOUNDERS, 9)


def test_those_that_join_may_be_victims_too_and_make_up_for_those_that_go() -> None:
    join = Fault(kind="join", at=0.0, node="late")
    check_faults(FaultScript(faults=(join, kill("late"), kill("node0"), kill("node1"))), FOUNDERS, 9)
    check_faults(FaultScript(faults=(kill("bootstrap"), kill("node0"), kill("node1"))), FOUNDERS, 9)


def test_newcomers_without_a_name_get_the_next_free_one() -> None:
    join = Fault(kind="join", at=0.0)
    faults = named((join, join.model_copy(update={"node": "node4"}), join), FOUNDERS)
    assert [fault.node for fault in faults] == ["node3", "node4", "node5"]
    with pytest.raises(BadFaults, match="two nodes would be called node1"):
        named((join.model_copy(update={"node": "node1"}),), FOUNDERS)
