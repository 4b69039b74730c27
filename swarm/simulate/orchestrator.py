"""Runs a scenario: starts real nodes, watches their event files, does the faults, and leaves nothing running behind."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from p2p.errors import SwarmError
from swarm.config import NodeConfig
from swarm.simulate.board import Board
from swarm.simulate.process import Child, stop_all
from swarm.simulate.scenario import Fault, Scenario
from swarm.simulate.workspace import Workspace, clean_environment

SWARM = (sys.executable, "-m", "swarm")
HOST = "127.0.0.1"
TICK_SECONDS = 0.1
BOOTSTRAP_SECONDS = 60.0
LEAVE_SECONDS = 15.0
"""A node that was asked to leave must be gone by then."""
END_SECONDS = 30.0
"""A node that is still there after the last round gets this long to end, or to get on if it came late."""


class SimulationFailed(SwarmError):
    """The swarm could not even start."""


class Display(Protocol):
    """Shows a board to a person."""

    def update(self, board: Board) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was done, and when: seconds since the simulation began."""

    fault: Fault
    seconds: float


class Simulation:
    """One run of a scenario. After `run`, `board`, `done` and `problems` tell what happened."""

    def __init__(
        self, scenario: Scenario, workspace: Workspace, display: Display, command: Sequence[str] = SWARM
    ) -> None:
        """command: what starts Swarm's command line; tests give their own."""
        self.scenario, self.workspace, self.display, self.command = scenario, workspace, display, tuple(command)
        self.board = Board(scenario.rounds, scenario.run.inner_steps)
        self.done: list[Done] = []
        self.problems: list[str] = []
        self._pending = list(scenario.faults)
        self._children: dict[str, Child] = {}
        self._running: set[str] = set()
        self._gone_on_purpose: set[str] = set()
        self._addresses: tuple[str, ...] = ()

    def run(self) -> None:
        """Until all nodes have ended. Raises SimulationFailed, and KeyboardInterrupt on SIGINT, SIGTERM and SIGHUP."""
        with _signals_interrupt():
            try:
                self._addresses = self._start_bootstrap()
                for name in self.scenario.founders:
                    self._start_node(name, found=True)
                while self._running and not self._hopeless():
                    time.sleep(TICK_SECONDS)
                    self._observe()
                    self._inject()
                    self.display.update(self.board)
            finally:
                self.board.end()
                self.display.close()
                self._stop()
        self.problems += [
            f"the {fault.kind} of {fault.node} never happened: round {fault.after} was not reached"
            for fault in self._pending
        ]

    # --- starting ---

    def _spawn(self, name: str, *arguments: str) -> Child:
        output = self.workspace.state_dir(name) / "output.log"
        child = Child([*self.command, *arguments], output, clean_environment())
        self._children[name] = child
        return child

    def _start_bootstrap(self) -> tuple[str, ...]:
        state = str(self.workspace.state_dir("bootstrap"))
        child = self._spawn("bootstrap", "bootstrap", "--host", HOST, "--port", "0", "--state-dir", state)
        self.board.tell("starts; the nodes find each other through it", "bootstrap")
        deadline = time.monotonic() + BOOTSTRAP_SECONDS
        while time.monotonic() < deadline:
            addresses = tuple(line.strip() for line in child.lines() if line.startswith("/"))
            if addresses:
                return addresses
            if child.status is not None:
                raise SimulationFailed(f"the bootstrap process ended: {child.last_line()}")
            time.sleep(TICK_SECONDS)
            self.display.update(self.board)
        raise SimulationFailed(
            f"the bootstrap process gave no address in {BOOTSTRAP_SECONDS:.0f} s: {child.last_line()}"
        )

    def _start_node(self, name: str, found: bool) -> None:
        node = NodeConfig(
            name=name,
            host=HOST,
            port=0,
            dht_port=0,
            bootstrap_peers=self._addresses,
            found=found,
            state_dir=self.workspace.state_dir(name),
            device=self.scenario.device,
            threads=self.scenario.threads,
            rounds=self.scenario.rounds,
        )
        config = self.workspace.write_config(name, self.scenario.run_config, node)
        self.board.add(name, node.events_path)
        self._spawn(name, "node", "--config", str(config))
        self._running.add(name)

    # --- while it runs ---

    def _observe(self) -> None:
        ended = {name for name in self._running if self._children[name].status is not None}
        self.board.read()  # after looking who ended, so that nothing they wrote is missed
        for name in sorted(ended):
            self._running.discard(name)
            self._account_for(name)
        for name in self._gone_on_purpose & self._running:
            child = self._children[name]
            if child.stopped_at is not None and time.monotonic() - child.stopped_at > LEAVE_SECONDS:
                self.problems.append(f"{name} was asked to leave and was still there {LEAVE_SECONDS:.0f} s later")
                child.kill()

    def _account_for(self, name: str) -> None:
        """A node has ended: was it meant to?"""
        child, view = self._children[name], self.board.nodes[name]
        assert child.status is not None
        how = f"killed by {signal.Signals(-child.status).name}" if child.status < 0 else f"exit status {child.status}"
        if name in self._gone_on_purpose:
            killed = child.status == -signal.SIGKILL
            view.state = "killed" if killed else "left"
            self.board.tell("is dead" if killed else "has left", name)
            if child.status not in (0, -signal.SIGKILL):
                self.problems.append(f"{name} was asked to leave and ended with {how}: {child.last_line()}")
        elif child.status == 0 and view.committed >= self.scenario.rounds:
            view.state = "finished"
        else:
            view.state = "died"
            self.problems.append(f"{name} died after round {view.committed} ({how}): {child.last_line()}")
            self.board.tell(f"died, {how}", name)

    def _inject(self) -> None:
        """Do the faults whose round has come."""
        while self._pending and self.board.committed >= self._pending[0].after:
            fault = self._pending.pop(0)
            if fault.kind == "join":
                self._start_node(fault.node, found=False)
                self.board.tell("starts, to join the running swarm", fault.node)
            else:
                self._gone_on_purpose.add(fault.node)
                child = self._children[fault.node]
                self.board.tell(
                    "is asked to leave (SIGTERM)" if fault.kind == "leave" else "is killed (SIGKILL)", fault.node
                )
                child.terminate() if fault.kind == "leave" else child.kill()
            self.done.append(Done(fault, self.board.seconds()))

    def _hopeless(self) -> bool:
        """Whether waiting on is in vain."""
        if self.problems and self.board.committed < 0:
            return True  # a founder died before the run was founded: the others would wait for it for ever
        over = self.board.committed >= self.scenario.rounds
        silent = time.monotonic() - self.board.heard
        if silent <= (END_SECONDS if over else self.scenario.stall_seconds):
            return False
        there = ", ".join(sorted(self._running))
        self.problems.append(f"no node got anything done for {silent:.0f} s; still there: {there}")
        return True

    # --- ending ---

    def _stop(self) -> None:
        try:
            stubborn = stop_all(self._children.values())
        except KeyboardInterrupt:  # a second Ctrl-C: now
            for child in self._children.values():
                child.kill_group()
            raise
        for name, child in self._children.items():
            if child in stubborn:
                self.problems.append(f"{name} did not clean up after itself and had to be killed: {child.last_line()}")
        self.board.read()


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
