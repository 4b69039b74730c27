"""The table on a terminal, and lines elsewhere."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from swarm.events import PeerUp, Train
from swarm.simulate.board import Board
from swarm.simulate.display import LiveDisplay, PlainDisplay, display_for, render


@pytest.fixture
def board() -> Board:
    board = Board(rounds=10, inner_steps=20)
    view = board.add("node0", Path("none"))
    view.apply(PeerUp(peer="p1"))
    view.apply(Train(round=3, inner_step=5, loss=2.3456))
    board.tell("starts")
    board.tell("leaves [bold]soon", "node0")
    return board


def test_the_table_shows_nodes_progress_and_news(board: Board) -> None:
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(render(board))
    text = capture.get()
    for words in ("node0", "training", "5/20", "2.346", "round 0 of 10", "leaves [bold]soon", "simulation"):
        assert words in text


def test_those_that_are_gone_make_room(board: Board) -> None:
    for index in range(1, 40):
        board.add(f"node{index}", Path("none"))
        board.gone(f"node{index}", "killed")
    board.add("node40", Path("none"))
    console = Console(width=120, height=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(render(board))
    text = capture.get()
    assert "and 25 that are gone" in text
    assert "node0 " in text
    assert "node40" in text


def test_without_a_last_round_there_is_no_bar() -> None:
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(render(Board(rounds=None, inner_steps=20)))
    assert "round 0" in capture.get()


def test_lines_are_written_once(board: Board) -> None:
    stream = io.StringIO()
    display = display_for(stream)
    assert isinstance(display, PlainDisplay)
    display.update(board)
    display.update(board)
    board.tell("ends")
    display.update(board)
    display.close()
    first, second, third = stream.getvalue().splitlines()
    assert first.endswith("simulation starts")
    assert second.endswith("node0      leaves [bold]soon")
    assert third.endswith("simulation ends")


def test_a_terminal_gets_the_live_table_and_its_cursor_back(board: Board) -> None:
    stream = io.StringIO()
    display = LiveDisplay(Console(file=stream, force_terminal=True, width=120))
    display.update(board)
    display.close()
    written = stream.getvalue()
    assert "training" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_a_display_can_close_before_it_showed_anything() -> None:
    display = LiveDisplay(Console(file=io.StringIO(), force_terminal=True))
    display.close()
