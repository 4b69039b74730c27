"""Real `swarm node` processes on loopback, watched through their event files; waits end at an event or fail."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from swarm.config import NodeConfig, RunConfig
from swarm.events import Event, EventReader, Round, Started
from swarm.simulate.clock import skewed
from swarm.simulate.network import Network
from swarm.simulate.process import GROUP_SECONDS, Child, processes_of, stop_all
from swarm.simulate.workspace import clean_environment, to_toml

T = TypeVar("T", bound=Event)
HOST = "127.0.0.1"
PYTHON = (sys.executable, "-m")
QUICK = RunConfig(model="demo", inner_steps=4, batch_size=2, sequence_length=64, warmup_steps=2)
POLL_SECONDS = 0.002


class NodeProcess:
    """One node and all events it wrote so far, in all of its lives."""

    def __init__(
        self,
        directory: Path,
        run: RunConfig,
        launcher: Sequence[str] = PYTHON,
        clock: float = 0.0,
        **settings: Any,
    ) -> None:
        """launcher: what to put before `swarm node ...`; clock: seconds by which its wall clock is wrong."""
        directory.mkdir(parents=True, exist_ok=True)
        fields: dict[str, Any] = {"host": HOST, "port": 0, "dht_port": 0, "threads": 1, "state_dir": directory}
        node = NodeConfig(**(fields | settings))
        (directory / "swarm.toml").write_text(to_toml({"run": run, "node": node}))
        self._command = [*launcher, "swarm", "node", "--config", str(directory / "swarm.toml")]
        self._directory, self._clock = directory, clock
        self._reader = EventReader(node.events_path)
        self.events: list[Event] = []
        self.times: list[float] = []
        """Of the events, by this machine's clock."""
        self.child = self._launch()

    def again(self) -> None:
        """It was killed: start it once more, on its old files."""
        self.child.process.wait()
        self.child = self._launch()

    def _launch(self) -> Child:
        environment = clean_environment() | skewed(self._clock, self._directory)
        return Child(self._command, self._directory / "output.log", environment)

    def read(self) -> None:
        for at, event in self._reader.new():
            self.times.append(at - self._clock)
            self.events.append(event)

    def wait(
        self,
        kind: type[T],
        matches: Callable[[T], bool] = lambda event: True,
        seconds: float = 120.0,
        since: float = 0.0,
    ) -> T:
        """The first event of that kind that matches, told after `since`; fails when the node ends or the time is up."""
        deadline = time.monotonic() + seconds
        while True:
            ended = self.child.status is not None
            self.read()
            for at, event in zip(self.times, self.events, strict=True):
                if at >= since and isinstance(event, kind) and matches(event):
                    return event
            assert not ended, f"the node ended with {self.child.status}: {self.said()}"
            assert time.monotonic() < deadline, f"no {kind.__name__} in {seconds} s: {self.said()}"
            time.sleep(POLL_SECONDS)

    def wait_round(self, round: int, seconds: float = 120.0) -> Round:
        return self.wait(Round, lambda event: event.round >= round, seconds)

    def rounds(self) -> dict[int, Round]:
        self.read()
        return {event.round: event for event in self.events if isinstance(event, Round)}

    def time_of(self, event: Event) -> float:
        return next(at for at, other in zip(self.times, self.events, strict=True) if other is event)

    @property
    def peer(self) -> str:
        return self.wait(Started).peer

    def said(self) -> str:
        return "\n".join(self.child.lines()[-15:])


class Processes:
    """The nodes of one test."""

    def __init__(self, directory: Path, network: Network | None = None) -> None:
        """network: in which every node is a host of its own; else they are all on loopback."""
        self.directory, self.network = directory, network
        self.nodes: list[NodeProcess] = []

    def start(self, run: RunConfig, **settings: Any) -> NodeProcess:
        name = f"n{len(self.nodes)}"
        if self.network is not None:
            self.network.add(name)
            settings |= {"host": self.network.address(name), "launcher": [*self.network.inside(name), *PYTHON]}
        node = NodeProcess(self.directory / name, run, name=name, **settings)
        self.nodes.append(node)
        return node

    def found(self, count: int, run: RunConfig = QUICK, **settings: Any) -> list[NodeProcess]:
        """A run of `count` nodes that found each other through the first; `self.run` is what it agreed on."""
        self.run = run.model_copy(update={"founders": count})
        self.start(self.run, found=True, **settings)
        for _ in range(count - 1):
            self.start(self.run, bootstrap_peers=self.address(), found=False, **settings)
        return list(self.nodes)

    def address(self, *nodes: NodeProcess) -> tuple[str, ...]:
        """Where newcomers find these nodes; without any, the first."""
        return tuple(node.wait(Started).bootstrap[0] for node in nodes or self.nodes[:1])

    def same_digests(self) -> None:
        """Every round left the same state and the same record on all who committed it."""
        seen: dict[int, tuple[str, str, str]] = {}
        for node in self.nodes:
            for number, event in node.rounds().items():
                state = (event.record, event.theta_digest, event.momentum_digest)
                assert seen.setdefault(number, state) == state, f"round {number} differs"
        assert seen


@contextmanager
def processes(directory: Path, network: Network | None = None) -> Iterator[Processes]:
    """Stops all that was started, and insists that nothing is left of it."""
    group = Processes(directory, network)
    try:
        yield group
    finally:
        stop_all([node.child for node in group.nodes])
    deadline = time.monotonic() + GROUP_SECONDS
    while left := processes_of(directory):  # the DHT's process has a session of its own
        assert time.monotonic() < deadline, f"these stayed behind: {left}"
        time.sleep(POLL_SECONDS)
    assert not list(directory.rglob("*.sock")), "socket files stayed behind"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))
