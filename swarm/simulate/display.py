"""The live table of a simulation, and its plain stand-in where standard output is no terminal."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from swarm.simulate.board import Board, News, NodeView
from swarm.simulate.orchestrator import Display

REFRESH_SECONDS = 0.25
NEWS_SHOWN = 8
ROWS = 16
"""Nodes that the table shows, at most, unless more are alive."""
ENDED = ("died", "killed", "left", "finished")
COLOURS = {
    "frozen": "blue",
    "training": "green",
    "reducing": "yellow",
    "committed": "cyan",
    "died": "red",
    "killed": "red",
    "left": "dim",
}


def display_for(stream: TextIO) -> Display:
    """A live table on a terminal, plain lines elsewhere."""
    console = Console(file=stream)
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(stream)


class LiveDisplay:
    """Redraws the table a few times a second."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, redirect_stderr=False)
        self._drawn = 0.0
        self._board: Board | None = None
        self._live.start()

    def update(self, board: Board) -> None:
        self._board = board
        now = time.monotonic()
        if now - self._drawn >= REFRESH_SECONDS:
            self._drawn = now
            self._live.update(render(board), refresh=True)

    def close(self) -> None:
        if self._board is not None:
            self._live.update(render(self._board), refresh=True)
        self._live.stop()


class PlainDisplay:
    """One line for each piece of news."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream, self._shown = stream, 0

    def update(self, board: Board) -> None:
        fresh = board.told - self._shown
        for news in list(board.news)[-fresh:] if fresh else []:
            self._stream.write(line(news) + "\n")
        self._shown = board.told
        self._stream.flush()

    def close(self) -> None:
        """Nothing to put back."""


def render(board: Board) -> Group:
    """Nodes, progress, and what happened lately."""
    recent = [Text(line(news), overflow="ellipsis", no_wrap=True) for news in list(board.news)[-NEWS_SHOWN:]]
    return Group(_nodes(board), _progress(board), *recent)


def line(news: News) -> str:
    return f"{news.seconds:7.1f} s  {news.node or 'simulation':<10} {news.text}"


def _nodes(board: Board) -> Table:
    table = Table(title="swarm", title_justify="left")
    table.add_column("node")
    table.add_column("state", min_width=9)
    for title in ("round", "inner step", "loss", "peers", "tokens/s", "MB sent"):
        table.add_column(title, justify="right")
    over = [view for view in board.nodes.values() if view.state in ENDED]
    hidden = {view.name for view in over[: max(0, len(board.nodes) - ROWS)]}
    for view in board.nodes.values():
        if view.name not in hidden:
            table.add_row(*_row(view))
    if hidden:
        table.caption, table.caption_justify = f"and {len(hidden)} that are gone", "left"
    return table


def _row(view: NodeView) -> tuple[Text | str, ...]:
    speed = view.tokens_per_second
    return (
        view.name,
        Text(view.state, style=COLOURS.get(view.state, "")),
        "-" if view.round is None else str(view.round),
        f"{view.inner_step}/{view.inner_steps}",
        "-" if view.loss is None else f"{view.loss:.3f}",
        str(len(view.peers)),
        "-" if speed is None else f"{speed:,.0f}",
        f"{view.bytes_sent / 1e6:.2f}",
    )


def _progress(board: Board) -> Table:
    grid = Table.grid(padding=(0, 1))
    committed = max(0, board.committed)
    if board.rounds is None:
        grid.add_row(f"round {committed}", f"{board.seconds():.0f} s")
    else:
        bar = ProgressBar(total=board.rounds, completed=committed, width=40)
        grid.add_row(f"round {committed} of {board.rounds}", bar, f"{board.seconds():.0f} s")
    return grid
