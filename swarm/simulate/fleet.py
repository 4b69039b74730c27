"""The processes of a simulation: a bootstrap and nodes, each of which may live more than once."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2p.errors import SwarmError
from swarm.simulate.board import Board
from swarm.simulate.clock import skewed
from swarm.simulate.network import Network
from swarm.simulate.ports import Ports
from swarm.simulate.process import Child, processes_of, stop_all
from swarm.simulate.scenario import Scenario
from swarm.simulate.workspace import Workspace, clean_environment

SWARM = (sys.executable, "-m", "swarm")
HOST = "127.0.0.1"
BOOTSTRAP = "bootstrap"
BOOTSTRAP_SECONDS = 60.0
LEAVE_SECONDS = 15.0
"""A node that was asked to leave must be gone by then."""
ORPHAN_SECONDS = 5.0
"""What a dead node started has this long to notice it."""
KNOWN_PEERS = 3
"""Nodes that a newcomer's bootstrap list names beside the bootstrap: whichever of them is dead, it gets in."""
_PLACES = {"announce_host": None, "key_file": None, "events_file": None, "checkpoint_dir": None}
"""Settings of one machine's node that would make those of several get in each other's way."""
_TICK_SECONDS = 0.1


class SimulationFailed(SwarmError):
    """The swarm could not even start."""


@dataclass
class Life:
    """One process under a name, from its start to its end."""

    child: Child
    on_purpose: bool = False
    """Its end was asked for."""
    over: bool = False
    """Its end has been seen and accounted for."""


class Fleet:
    """Starts, freezes and ends them by name; `problems` collects what went wrong with them."""

    def __init__(self, scenario: Scenario, workspace: Workspace, board: Board, command: Sequence[str]) -> None:
        """Raises NoNamespaces and NoWrongClock if the scenario asks for what cannot be had here."""
        self.scenario, self.workspace, self.board, self.command = scenario, workspace, board, tuple(command)
        self.problems: list[str] = []
        self._lives: dict[str, Life] = {}
        self._bootstrap_address = ""
        self._free_ports, self._ports = Ports(), dict[str, tuple[int, int]]()
        skewed(max(map(abs, scenario.clocks), default=0.0), workspace.path)  # to fail now rather than later
        self._network = Network(workspace.state_dir("network")) if scenario.partitions else None

    # --- who is there ---

    def running(self) -> list[str]:
        """Nodes that live and are not frozen."""
        return [name for name in self._nodes() if self.lives(name) and not self._lives[name].child.frozen]

    def frozen(self) -> list[str]:
        return [name for name in self._nodes() if self.lives(name) and self._lives[name].child.frozen]

    def present(self) -> list[str]:
        """Nodes that live, or ended so lately that nobody has accounted for it."""
        return [name for name in self._nodes() if not self._lives[name].over]

    def down(self) -> list[str]:
        """Nodes that lived, and could again."""
        return [name for name in self._nodes() if self._lives[name].over]

    def pids(self) -> dict[str, int]:
        """Of all that live, the bootstrap too."""
        return {name: life.child.pid for name, life in self._lives.items() if self.lives(name)}

    def lives(self, name: str) -> bool:
        return name in self._lives and self._lives[name].child.status is None

    def ending(self, name: str) -> bool:
        """Whether its end was asked for and is yet to come, or to be accounted for."""
        return self._lives[name].on_purpose and not self._lives[name].over

    def is_frozen(self, name: str) -> bool:
        return self._lives[name].child.frozen

    def _nodes(self) -> list[str]:
        return [name for name in self._lives if name != BOOTSTRAP]

    # --- starting ---

    def start_bootstrap(self, waiting: Callable[[], None]) -> None:
        """Start it and wait for its address, calling `waiting` meanwhile. Raises SimulationFailed."""
        child = self._launch_bootstrap()
        deadline = time.monotonic() + BOOTSTRAP_SECONDS
        while time.monotonic() < deadline:
            address = next((line.strip() for line in child.lines() if line.startswith("/")), None)
            if address is not None:
                self._bootstrap_address = address
                return
            if child.status is not None:
                raise SimulationFailed(f"the bootstrap process ended: {child.last_line()}")
            time.sleep(_TICK_SECONDS)
            waiting()
        raise SimulationFailed(
            f"the bootstrap process gave no address in {BOOTSTRAP_SECONDS:.0f} s: {child.last_line()}"
        )

    def start(self, name: str, *, found: bool = False) -> None:
        """A node, or the bootstrap once more; on the state directory and the ports that it had before, if any."""
        if name == BOOTSTRAP:
            self._launch_bootstrap()
            return
        clock = self.scenario.clock_of(name)
        config = self._write_config(name, found)
        self.board.add(name, self.workspace.state_dir(name) / "events.jsonl", clock)
        self._spawn(name, "node", "--config", str(config), clock=clock)

    def _launch_bootstrap(self) -> Child:
        state = str(self.workspace.state_dir(BOOTSTRAP))
        clock = self.scenario.clock_of(BOOTSTRAP)
        host, port = self._host(BOOTSTRAP), self._ports_of(BOOTSTRAP)[0]
        return self._spawn(
            BOOTSTRAP, "bootstrap", "--host", host, "--port", str(port), "--state-dir", state, clock=clock
        )

    def _ports_of(self, name: str) -> tuple[int, int]:
        """The same in all its lives."""
        if name not in self._ports:
            self._ports[name] = self._free_ports.take(), self._free_ports.take()
        return self._ports[name]

    def _write_config(self, name: str, found: bool) -> Path:
        known = [view.addresses[0] for other in self.running() if (view := self.board.nodes[other]).addresses]
        port, dht_port = self._ports_of(name)
        own = {
            "name": name,
            "host": self._host(name),
            "port": port,
            "dht_port": dht_port,
            "bootstrap_peers": (self._bootstrap_address, *known[:KNOWN_PEERS]),
            "found": found,
            "state_dir": self.workspace.state_dir(name),
            "threads": self.scenario.node.threads or self.scenario.threads,
            "rounds": self.scenario.rounds,
        }
        node = self.scenario.node.model_copy(update=own | _PLACES)
        return self.workspace.write_config(name, self.scenario.run_config, node)

    def _spawn(self, name: str, *arguments: str, clock: float) -> Child:
        assert not self.lives(name)
        output = self.workspace.state_dir(name) / "output.log"
        prefix = self._network.inside(name) if self._network else []
        child = Child(
            [*prefix, *self.command, *arguments], output, clean_environment() | skewed(clock, self.workspace.path)
        )
        self._lives[name] = Life(child)
        return child

    def _host(self, name: str) -> str:
        if self._network is None:
            return HOST
        if name not in self._network:
            self._network.add(name)
        return self._network.address(name)

    # --- faults ---

    def leave(self, name: str) -> None:
        self._lives[name].on_purpose = True
        self._lives[name].child.terminate()

    def kill(self, name: str) -> None:
        self._lives[name].on_purpose = True
        self._lives[name].child.kill()

    def freeze(self, name: str) -> None:
        self._lives[name].child.freeze()
        if name != BOOTSTRAP:
            self.board.nodes[name].state = "frozen"

    def thaw(self, name: str) -> None:
        if self.lives(name) and self.is_frozen(name):
            self._lives[name].child.thaw()
            if name != BOOTSTRAP:
                self.board.nodes[name].state = "thawed"

    def cut(self, left: Sequence[str], right: Sequence[str]) -> Callable[[], None]:
        """Returns what heals it."""
        assert self._network is not None
        network = self._network
        pairs = network.cut(left, right)
        return lambda: network.heal(pairs)

    def heal(self) -> None:
        if self._network is not None:
            self._network.heal()

    # --- ending ---

    def account(self) -> None:
        """See who has ended, and whether that was meant."""
        ended = [name for name, life in self._lives.items() if not life.over and life.child.status is not None]
        self.board.read()  # after looking who ended, so that nothing they wrote is missed
        for name in ended:
            life = self._lives[name]
            life.over = True
            if name == BOOTSTRAP:
                self._account_for_bootstrap(life)
            else:
                self._account_for_node(name, life)
        for name, life in self._lives.items():
            since = life.child.stopped_at
            if not life.over and since is not None and time.monotonic() - since > LEAVE_SECONDS:
                self.problems.append(f"{name} was asked to leave and was still there {LEAVE_SECONDS:.0f} s later")
                life.child.kill()

    def _account_for_bootstrap(self, life: Life) -> None:
        if not life.on_purpose:
            self.problems.append(f"the bootstrap died ({_how(life.child)}): {life.child.last_line()}")
            self.board.tell(f"died, {_how(life.child)}", BOOTSTRAP)

    def _account_for_node(self, name: str, life: Life) -> None:
        child, view, last = life.child, self.board.nodes[name], self.scenario.rounds
        if life.on_purpose:
            killed = child.status == -signal.SIGKILL
            self.board.gone(name, "killed" if killed else "left")
            self.board.tell("is dead" if killed else "has left", name)
            if child.status not in (0, -signal.SIGKILL):
                self.problems.append(f"{name} was asked to leave and ended with {_how(child)}: {child.last_line()}")
        elif child.status == 0 and last is not None and view.height >= last:
            self.board.gone(name, "finished")
        else:
            self.board.gone(name, "died")
            self.problems.append(f"{name} died after round {view.committed} ({_how(child)}): {child.last_line()}")
            self.board.tell(f"died, {_how(child)}", name)

    def stop(self) -> None:
        """End all that is still there, and insist that nothing of it stays behind."""
        children = {name: life.child for name, life in self._lives.items()}
        try:
            stubborn = stop_all(children.values())
            for name, child in children.items():
                if child in stubborn:
                    self.problems.append(
                        f"{name} did not clean up after itself and had to be killed: {child.last_line()}"
                    )
            if self._network is not None:
                self._network.close()
            self._look_for_orphans()
        except KeyboardInterrupt:  # a second Ctrl-C: now
            for child in children.values():
                child.kill_group()
            if self._network is not None:
                self._network.close()
            raise
        self.board.read()

    def _look_for_orphans(self) -> None:
        """Processes of nodes that are gone: none may be left, of none of their lives."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (orphans := processes_of(self.workspace.path)) and time.monotonic() < deadline:
            time.sleep(_TICK_SECONDS)
        for pid, command in orphans.items():
            self.problems.append(f"process {pid} stayed behind: {command[:200]}")


def _how(child: Child) -> str:
    status = child.status
    assert status is not None
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
