"""The report: its totals by hand, and every way in which a simulation can have failed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from swarm.config import RunConfig
from swarm.events import Evaluated, Round, Started, Synced
from swarm.simulate.board import Board
from swarm.simulate.faults import Chaos, Fault, FaultScript, Kind
from swarm.simulate.injector import Done
from swarm.simulate.plot import plot
from swarm.simulate.report import Bits, build_report, expected_bytes, utilisation
from swarm.simulate.scenario import Scenario
from swarm.simulate.summary import summary

SCENARIO = Scenario(nodes=2, rounds=2, run=RunConfig(codec="int8"))


def committed(number: int, peer: str, **changes: object) -> Round:
    fields: dict[str, object] = {
        "round": number,
        "node": f"node{peer[1:]}",
        "peer": peer,
        "loss": 4.0 - number,
        "tokens": 100,
        "inner_steps": 10,
        "train_seconds": 3.0,
        "reduce_seconds": 0.5,
        "round_seconds": 4.0,
        "bytes_sent": 1100,
        "bytes_received": 900,
        "contributors": 2,
        "members": ("p0", "p1"),
        "record": f"r{number}",
        "theta_digest": f"t{number}",
        "momentum_digest": f"m{number}",
        "codec": "int8",
        "attempt": 0,
    }
    return Round.model_validate(fields | changes)


@pytest.fixture
def board() -> Board:
    """Two nodes, the forming round 0 and two rounds, all in order."""
    board = Board(rounds=2, inner_steps=10)
    for index in range(2):
        view = board.add(f"node{index}", Path("none"))
        view.apply(Started(peer=f"p{index}", port=1, bootstrap=()))
        view.apply(committed(0, f"p{index}", contributors=0, tokens=0, inner_steps=0, loss=None, bytes_sent=77))
        for number in (1, 2):
            view.apply(committed(number, f"p{index}"))
    for number, loss in ((2, 3.5), (0, 5.5), (1, 4.5)):
        board.nodes["node0"].apply(Evaluated(round=number, held_out_loss=loss))
    return board


def done(kind: Kind, node: str, seconds: float = 5.0) -> Done:
    return Done(Fault(kind=kind, node=node, after_round=1), node, seconds)


def report(board: Board, scenario: Scenario = SCENARIO, done: tuple[Done, ...] = ()) -> dict:  # type: ignore[type-arg]
    return build_report(scenario, board, done, [], params=1000, bits=Bits(8.0, 8.0))


def test_a_clean_run_has_no_problems_and_all_rows(board: Board) -> None:
    content = report(board)
    assert content["problems"] == []
    assert [(row["round"], row["node"]) for row in content["rounds"]] == [
        (r, f"node{n}") for r in range(3) for n in (0, 1)
    ]
    assert set(content["rounds"][2]) >= {
        *("round", "node", "loss", "tokens", "inner_steps", "train_seconds", "reduce_seconds", "bytes_sent"),
        *("bytes_received", "contributors", "record", "theta_digest", "momentum_digest"),
    }
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_totals(board: Board) -> None:
    board.nodes["node1"].rounds[1] = committed(1, "p1", bytes_sent=5100, transfer_bytes_sent=4000)
    numbers = report(board)["totals"]
    assert numbers["params"] == 1000
    assert numbers["codec"] == "int8"
    assert numbers["rounds"] == 2
    assert numbers["tokens"] == 400
    assert numbers["bytes_per_param_per_round"] == pytest.approx(1.1)
    assert numbers["expected_bytes_per_param"] == pytest.approx(1.0)
    assert numbers["utilisation"] == pytest.approx(0.75)
    assert numbers["tokens_per_second"] == pytest.approx(400 / 8)
    assert numbers["mfu"] is None
    assert (numbers["held_out_loss_first"], numbers["held_out_loss_last"]) == (5.5, 3.5)


def test_the_expected_payload_is_the_butterflys() -> None:
    int8, fp32 = Bits(8.0, 8.0), Bits(32.0, 32.0)
    assert expected_bytes(4, 4, int8) == pytest.approx(2 * 3 / 4)
    assert expected_bytes(1, 1, int8) == 0.0
    # a newcomer among four: it sends no parts, only its quarter of the mean
    assert expected_bytes(4, 3, fp32) == pytest.approx(4 * (3 * (3 / 4 + 3 / 4) + 3 / 4) / 4)
    assert expected_bytes(4, 4, Bits(2.0, 4.0)) == pytest.approx((3 / 4 * 2 + 3 / 4 * 4) / 8)


def test_utilisation_ignores_members_that_only_receive() -> None:
    assert utilisation([committed(1, "p0"), committed(1, "p1", inner_steps=0)]) == 0.75
    assert utilisation([committed(1, "p0", round_seconds=0.0)]) == pytest.approx(3.0 / 3.5)
    assert utilisation([]) is None


@pytest.mark.parametrize("field", ["record", "theta_digest", "momentum_digest"])
def test_members_that_disagree(board: Board, field: str) -> None:
    board.nodes["node1"].rounds[1] = committed(1, "p1", **{field: "other"})
    (problem,) = report(board)["problems"]
    assert problem.startswith(f"round 1: {field} differs: ")
    assert "node0" in problem
    assert "node1" in problem


def test_a_lost_round(board: Board) -> None:
    for view in board.nodes.values():
        view.rounds.pop()
    assert report(board)["problems"] == ["round 2 was lost: no node committed it"]


def test_a_member_without_its_round(board: Board) -> None:
    board.nodes["node1"].rounds.pop()
    assert report(board)["problems"] == ["round 2: node1 was a member and did not commit it"]


def test_a_member_that_was_sent_away_may_lack_its_last_round(board: Board) -> None:
    board.nodes["node1"].rounds.pop()
    content = report(board, done=(done("kill", "node1", 12.34),))
    assert content["problems"] == []
    assert content["faults"] == [{"kind": "kill", "node": "node1", "after_round": 1, "seconds": 12.3}]


def test_a_member_of_the_last_round_was_told_to_leave_in_it(board: Board) -> None:
    board.nodes["node1"].rounds.pop()
    board.dismissed = 1
    chaos = Scenario(nodes=2, rounds=None, script=FaultScript(chaos=Chaos(seconds=9.0)))
    assert report(board, chaos)["problems"] == []
    board.dismissed = 2
    assert report(board, chaos)["problems"] == ["round 2: node1 was a member and did not commit it"]


def test_rounds_of_a_partition_may_differ_if_one_side_has_dropped_its_own(board: Board) -> None:
    cut = Fault(kind="cut", after_round=1, between=(("node0",), ("node1",)), seconds=3.0)
    scenario = replace(SCENARIO, script=FaultScript(faults=(cut,)))
    split = Done(cut, "node0 | node1", 7.0, 1)
    board.nodes["node1"].rounds[2] = committed(2, "p1", record="other", theta_digest="other", momentum_digest="other")
    assert any("round 2: record differs" in problem for problem in report(board, scenario, (split,))["problems"])
    board.nodes["node1"].apply(Synced(round=2, bytes=9, seconds=0.1, donors=1))
    content = report(board, scenario, (split,))
    assert content["problems"] == []
    assert content["faults"][0] == {
        "kind": "cut",
        "node": "node0 | node1",
        "after_round": 1,
        "seconds": 7.0,
        "lasting": 3.0,
    }


def test_in_a_partition_too_a_record_stands_for_one_state(board: Board) -> None:
    cut = Fault(kind="cut", after_round=1, between=(("node0",), ("node1",)))
    board.nodes["node1"].rounds[2] = committed(2, "p1", theta_digest="other")
    board.nodes["node1"].apply(Synced(round=2, bytes=9, seconds=0.1, donors=1))
    problems = report(board, replace(SCENARIO, script=FaultScript(faults=(cut,))))["problems"]
    assert [problem.split(" differs")[0] for problem in problems] == ["round 2: theta_digest"]


def test_a_node_must_agree_in_all_of_its_lives(board: Board) -> None:
    board.nodes["node0"].rounds.append(committed(2, "p0", record="other"))
    problems = report(board, done=(done("restart", "node0"),))["problems"]
    assert problems == ["round 2: record differs: r2 (node0, node1) against other (node0)"]


def test_stalls_are_times_without_a_new_round(board: Board) -> None:
    board.commits = [100.0, 101.0, 113.5, 114.0]
    totals = report(board)["totals"]
    assert (totals["longest_stall_seconds"], totals["stalls_over_10_s"]) == (12.5, 1)


def test_many_faults_are_counted_in_the_summary(board: Board) -> None:
    content = report(board, done=tuple(done("restart", "node1", float(index)) for index in range(30)))
    assert "restart             30 times" in summary(content)


def test_a_newcomer_that_never_trained(board: Board) -> None:
    board.add("node2", Path("none"))
    assert report(board, done=(done("join", "node2"),))["problems"] == [
        "node2 joined after round 1 and never trained in a round"
    ]


def test_a_loss_that_is_no_number_is_null(board: Board) -> None:
    board.nodes["node0"].rounds[1] = committed(1, "p0", loss=float("nan"))
    assert report(board)["rounds"][2]["loss"] is None


def test_an_empty_board_reports_what_is_missing() -> None:
    content = report(Board(rounds=2, inner_steps=10), replace(SCENARIO, rounds=1))
    assert content["problems"] == ["round 1 was lost: no node committed it"]
    assert content["totals"]["utilisation"] is None
    assert any("PROBLEM" in line for line in summary(content))


def test_the_summary_says_it_all(board: Board) -> None:
    content = report(board, done=(done("join", "node0"),))
    content["baseline"] = {"alone": 3.0, "alone_all_tokens": 2.0, "data_parallel": 1.5}
    text = "\n".join(summary(content))
    for words in (
        "2 of 2",
        "5.500 -> 3.500",
        "1.100 sent",
        "1.000",
        "0.750",
        "join",
        "identical",
        f"{'data parallel':<19} 1.500 nats",
    ):
        assert words in text


@pytest.mark.parametrize("baseline", [{}, {"baseline": {"alone": 3.0, "alone_all_tokens": 2.0, "data_parallel": 1.5}}])
def test_the_plot_is_a_png(board: Board, tmp_path: Path, baseline: dict[str, object]) -> None:
    content = report(board, done=(done("leave", "node1"),)) | baseline
    plot(content, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_plot_of_nothing_is_a_png_too(tmp_path: Path) -> None:
    plot(report(Board(rounds=2, inner_steps=10)), tmp_path / "loss.png")
    assert (tmp_path / "loss.png").exists()
