"""Events become the state of a node, and news."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.events import (
    Behind,
    Dead,
    Error,
    Evaluated,
    Event,
    EventLog,
    Fetching,
    Left,
    PeerDown,
    PeerUp,
    Reducing,
    Round,
    Started,
    Synced,
    Train,
    Unreachable,
    Waiting,
)
from swarm.simulate.board import Board


def committed(number: int, **changes: object) -> Round:
    fields: dict[str, object] = {
        "round": number,
        "node": "node0",
        "peer": "p0",
        "loss": 2.0,
        "tokens": 1000,
        "inner_steps": 10,
        "train_seconds": 1.0,
        "reduce_seconds": 0.5,
        "round_seconds": 2.0,
        "bytes_sent": 500,
        "bytes_received": 400,
        "contributors": 2,
        "members": ("p0", "p1"),
        "record": "aa",
        "theta_digest": "bb",
        "momentum_digest": "cc",
        "codec": "int8",
        "attempt": 0,
    }
    return Round.model_validate(fields | changes)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    board = Board(rounds=5, inner_steps=10)
    for name in ("node0", "node1"):
        board.add(name, tmp_path / f"{name}.jsonl")
    return board


def write(board: Board, name: str, *events: Event) -> None:
    log = EventLog(board.nodes[name].reader.path, quiet=True)
    for event in events:
        log.write(event)
    log.close()
    board.read()


def test_a_node_goes_through_its_states(board: Board) -> None:
    view = board.nodes["node0"]
    assert view.state == "starting"
    write(board, "node0", Started(peer="p0", port=1, bootstrap=()), Waiting(peers=1, min_peers=2))
    assert (view.state, view.peer) == ("waiting", "p0")
    write(board, "node0", Fetching(chunks=3, current=2, of_chunks=40, bytes=25_000_000, donors=1))
    assert view.state == "fetching"
    write(board, "node0", PeerUp(peer="p1"), PeerUp(peer="p2"), PeerDown(peer="p1", reason="gone"))
    assert view.peers == {"p2"}
    write(board, "node0", Synced(round=0, bytes=0, seconds=0, donors=0))
    assert view.state == "synced"
    write(board, "node0", Train(round=1, inner_step=3, loss=4.0))
    assert (view.state, view.round, view.inner_step, view.loss) == ("training", 1, 3, 4.0)
    write(board, "node0", Train(round=1, inner_step=10, loss=3.5))
    assert view.state == "ready"
    write(board, "node0", Reducing(round=1, attempt=0, coordinator="p0", members=2))
    assert view.state == "reducing"
    write(board, "node0", committed(1))
    assert (view.state, view.committed, view.loss, view.bytes_sent) == ("committed", 1, 2.0, 500)
    assert view.tokens_per_second == 500.0
    write(board, "node0", Left(round=1))
    assert view.state == "left"


def test_a_round_without_training_keeps_the_last_loss(board: Board) -> None:
    write(board, "node0", committed(1), committed(2, loss=None, tokens=0, inner_steps=0))
    assert board.nodes["node0"].loss == 2.0
    assert board.committed == 2


def test_nothing_is_committed_at_first(board: Board) -> None:
    assert board.committed == -1
    assert board.nodes["node0"].tokens_per_second is None


def test_news_tells_each_round_and_evaluation_once(board: Board) -> None:
    write(board, "node0", committed(1), Evaluated(round=1, held_out_loss=2.5))
    write(
        board,
        "node1",
        committed(1, peer="p1"),
        Evaluated(round=1, held_out_loss=2.5),
        Train(round=2, inner_step=1, loss=1),
    )
    assert [(news.node, news.text.split(":")[0]) for news in board.news] == [
        ("node0", "round 1 committed"),
        ("node0", "held-out loss after round 1"),
    ]


def test_trouble_is_news_from_any_node(board: Board) -> None:
    write(board, "node1", Error(message="disk full"))
    board.tell("is killed", "node1")
    assert [(news.node, news.text) for news in board.news] == [("node1", "error: disk full"), ("node1", "is killed")]
    assert board.told == 2


def test_a_lost_peer_is_told_once_and_by_its_name(board: Board) -> None:
    gone = PeerDown(peer="12D3KooWabcdef", reason="leaving")
    write(board, "node1", Started(peer="12D3KooWabcdef", port=1, bootstrap=()))
    write(board, "node0", gone, gone)
    assert [news.text for news in board.news] == ["peer node1 is down: leaving"]
    dead = Dead(round=1, peer="12D3KooWabcdef", reason="it said that it leaves")
    write(board, "node0", Unreachable(peer="12D3KooWabcdef", reason="refused"), dead, dead)
    assert [news.text for news in board.news][1:] == ["peer node1 counts as dead: it said that it leaves"]
    write(board, "node0", PeerUp(peer="12D3KooWabcdef"), gone)
    assert board.told == 3
    write(board, "node0", Left(round=1), PeerDown(peer="other", reason="we leave"))
    assert board.news[-1].text == "left after round 1"


def test_the_state_belongs_to_a_life(board: Board) -> None:
    view = board.nodes["node0"]
    write(board, "node0", Started(peer="p0", port=7, bootstrap=("/ip4/a",)))
    assert (view.port, view.addresses, view.holds_state) == (7, ("/ip4/a",), False)
    write(board, "node0", Synced(round=-1, bytes=0, seconds=0, donors=0), committed(1), committed(2))
    assert view.holds_state
    assert view.trained_in(2)
    write(board, "node0", Behind(reason="asleep"))
    assert not view.holds_state
    write(board, "node0", Synced(round=4, bytes=9, seconds=0, donors=2), committed(5, tokens=0))
    assert (view.holds_state, view.kept) == (True, 2)
    assert not view.trained_in(5)
    board.gone("node0", "killed")
    assert (view.state, view.holds_state) == ("killed", False)
    write(board, "node0", committed(6))
    assert view.committed == 5  # nobody writes any more, so nobody looks
    board.add("node0", view.reader.path)
    board.read()
    assert (view.committed, view.state) == (6, "committed")


def test_first_commits_are_timed_by_this_machines_clock(board: Board) -> None:
    board.nodes["node1"].clock = 300.0
    for name, number, at in (("node0", 1, 100.0), ("node1", 1, 401.0), ("node1", 2, 412.0), ("node0", 2, 113.0)):
        log = EventLog(board.nodes[name].reader.path, quiet=True, clock=lambda at=at: at)
        log.write(committed(number))
        log.close()
        board.read()
    assert board.commits == [100.0, 112.0]
    assert board.stalls == [12.0]


def test_the_coordinator_is_who_drives_the_newest_attempt(board: Board) -> None:
    write(board, "node0", Started(peer="p0", port=1, bootstrap=()), committed(1))
    write(board, "node0", Reducing(round=2, attempt=0, coordinator="p0", members=2))
    write(board, "node1", Reducing(round=1, attempt=0, coordinator="p1", members=2))
    assert board.name_of(board.coordinator) == "node0"
    assert board.name_of("p9") is None


def test_only_work_done_counts_as_being_heard(board: Board) -> None:
    board.heard = 0.0
    write(board, "node0", Waiting(peers=1, min_peers=2), Error(message="x"))
    assert board.heard == 0.0
    write(board, "node0", Train(round=1, inner_step=1, loss=1.0))
    assert board.heard > 0.0
