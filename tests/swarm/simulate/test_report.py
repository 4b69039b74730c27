"""The report: its totals by hand, and every way in which a simulation can have failed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from swarm.config import RunConfig
from swarm.events import Evaluated, Round, Started
from swarm.simulate.board import Board
from swarm.simulate.orchestrator import Done
from swarm.simulate.plot import plot
from swarm.simulate.report import build_report, expected_bytes, utilisation
from swarm.simulate.scenario import Fault, Scenario
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


def report(board: Board, scenario: Scenario = SCENARIO, done: tuple[Done, ...] = ()) -> dict:  # type: ignore[type-arg]
    return build_report(scenario, board, done, [], params=1000, bits=8.0)


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
    assert (numbers["held_out_loss_first"], numbers["held_out_loss_last"]) == (5.5, 3.5)


def test_the_expected_payload_is_the_butterflys() -> None:
    assert expected_bytes(4, 4, 8.0) == pytest.approx(2 * 3 / 4)
    assert expected_bytes(1, 1, 8.0) == 0.0
    # a newcomer among four: it sends no parts, only its quarter of the mean
    assert expected_bytes(4, 3, 32.0) == pytest.approx(4 * (3 * (3 / 4 + 3 / 4) + 3 / 4) / 4)


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
    content = report(board, done=(Done(Fault("kill", 1, "node1"), 12.34),))
    assert content["problems"] == []
    assert content["faults"] == [{"kind": "kill", "node": "node1", "after_round": 1, "seconds": 12.3}]


def test_a_newcomer_that_never_trained(board: Board) -> None:
    board.add("node2", Path("none"))
    done = (Done(Fault("join", 1, "node2"), 5.0),)
    assert report(board, done=done)["problems"] == ["node2 joined after round 1 and never trained in a round"]


def test_a_loss_that_is_no_number_is_null(board: Board) -> None:
    board.nodes["node0"].rounds[1] = committed(1, "p0", loss=float("nan"))
    assert report(board)["rounds"][2]["loss"] is None


def test_an_empty_board_reports_what_is_missing() -> None:
    content = report(Board(rounds=2, inner_steps=10), replace(SCENARIO, rounds=1))
    assert content["problems"] == ["round 1 was lost: no node committed it"]
    assert content["totals"]["utilisation"] is None
    assert any("PROBLEM" in line for line in summary(content))


def test_the_summary_says_it_all(board: Board) -> None:
    content = report(board, done=(Done(Fault("join", 1, "node0"), 5.0),))
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
    content = report(board, done=(Done(Fault("leave", 1, "node1"), 5.0),)) | baseline
    plot(content, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_plot_of_nothing_is_a_png_too(tmp_path: Path) -> None:
    plot(report(Board(rounds=2, inner_steps=10)), tmp_path / "loss.png")
    assert (tmp_path / "loss.png").exists()
