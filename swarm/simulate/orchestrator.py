"""Runs a scenario: starts real nodes, watches their event files, does the faults, and leaves nothing running behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from swarm.simulate.board import Board
from swarm.simulate.fleet import SWARM, Fleet
from swarm.simulate.injector import Done, Injector
from swarm.simulate.scenario import Scenario
from swarm.simulate.workspace import Workspace

TICK_SECONDS = 0.1
END_SECONDS = 30.0
"""A node that is still there after the last round gets this long to end, or to get on if it came late."""


class Display(Protocol):
    """Shows a board to a person."""

    def update(self, board: Board) -> None: ...

    def close(self) -> None: ...


class Simulation:
    """One run of a scenario. After `run`, `board`, `done` and `problems` tell what happened."""

    def __init__(
        self, scenario: Scenario, workspace: Workspace, display: Display, command: Sequence[str] = SWARM
    ) -> None:
        """command: what starts Swarm's command line; tests give their own.

        Raises NoNamespaces and NoWrongClock if the scenario asks for what cannot be had here.
        """
        self.scenario, self.workspace, self.display = scenario, workspace, display
        self.board = Board(scenario.rounds, scenario.run.inner_steps)
        self._fleet = Fleet(scenario, workspace, self.board, command)
        self._injector = Injector(scenario, self._fleet, self.board)
        self._leaving = False

    @property
    def done(self) -> list[Done]:
        return self._injector.done

    @property
    def problems(self) -> list[str]:
        return self._fleet.problems + self._injector.problems

    def pids(self) -> dict[str, int]:
        """Processes that live, by name; the bootstrap is one of them."""
        return self._fleet.pids()

    def run(self) -> None:
        """Until all nodes have ended. Raises SimulationFailed, and KeyboardInterrupt on SIGINT, SIGTERM and SIGHUP."""
        with _signals_interrupt():
            try:
                self.board.tell("starts; the nodes find each other through it", "bootstrap")
                self._fleet.start_bootstrap(lambda: self.display.update(self.board))
                for name in self.scenario.founders:
                    self._fleet.start(name, found=True)
                while self._going_on():
                    time.sleep(TICK_SECONDS)
                    self._fleet.account()
                    self._injector.step()
                    self.display.update(self.board)
            finally:
                self.board.end()
                self.display.close()
                self._fleet.stop()
        self._injector.close()

    def _going_on(self) -> bool:
        """Whether to wait for more; tells the nodes to leave when chaos is over."""
        if self._injector.over and not self._leaving:
            self._leaving = True
            self.board.dismissed = self.board.committed - 1  # the newest may be on its way to some of them
            for name in self._fleet.present():
                self._fleet.leave(name)
        return bool(self._fleet.present()) and not self._hopeless()

    def _hopeless(self) -> bool:
        """Whether waiting on is in vain."""
        if self.problems and self.board.committed < 0:
            return True  # a founder died before the run was founded: the others would wait for it for ever
        over = self.scenario.rounds is not None and self.board.committed >= self.scenario.rounds
        silent = time.monotonic() - self.board.heard
        if silent <= (END_SECONDS if over else self.scenario.stall_seconds):
            return False
        there = ", ".join(sorted(self._fleet.present()))
        self._fleet.problems.append(f"no node got anything done for {silent:.0f} s; still there: {there}")
        return True


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the simulation as Ctrl-C does."""
    caught = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _interrupt) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
