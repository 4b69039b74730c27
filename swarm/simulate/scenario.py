"""What a simulation does: how many nodes, for how long, and which faults after which round."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from p2p.errors import SwarmError
from swarm.config import RunConfig

FaultKind = Literal["join", "leave", "kill"]


class ImpossibleScenario(SwarmError):
    """The faults asked for do not fit the nodes and rounds asked for."""


@dataclass(frozen=True, slots=True)
class Fault:
    """join: one more node starts; leave: SIGTERM; kill: SIGKILL. Done once any node has committed round `after`."""

    kind: FaultKind
    after: int
    node: str


@dataclass(frozen=True)
class Scenario:
    """Nodes are called node0, node1, ...; rounds count from 1 (round 0 only forms the first view)."""

    nodes: int = 4
    rounds: int = 10
    join_at: int | None = None
    leave_at: int | None = None
    kill_at: int | None = None
    run: RunConfig = field(default_factory=RunConfig)
    device: str = "cpu"
    stall_seconds: float = 180.0
    """The simulation gives up when no node gets anything done for so long."""

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.rounds < 1:
            raise ImpossibleScenario("a simulation needs at least 1 node and 1 round: raise --nodes and --rounds")
        for kind, after in (("join", self.join_at), ("leave", self.leave_at), ("kill", self.kill_at)):
            if after is not None and not 1 <= after < self.rounds:
                raise ImpossibleScenario(
                    f"--{kind}-at {after}: give a round from 1 to {self.rounds - 1}, or raise --rounds {self.rounds}"
                )
        departures = sum(after is not None for after in (self.leave_at, self.kill_at))
        if departures >= self.nodes:
            raise ImpossibleScenario(f"{departures} of {self.nodes} nodes would go: --nodes must be more than that")

    @classmethod
    def demo(cls, nodes: int, rounds: int, run: RunConfig, device: str) -> Scenario:
        """One node joins after a third of the rounds and one leaves after two thirds, where that is possible."""
        join_at = rounds * 3 // 10 or None
        leave_at = rounds * 6 // 10 or None if nodes > 1 and rounds > 1 else None
        return cls(nodes, rounds, join_at, leave_at, None, run, device)

    @property
    def founders(self) -> tuple[str, ...]:
        return tuple(f"node{index}" for index in range(self.nodes))

    @property
    def faults(self) -> tuple[Fault, ...]:
        """In the order in which they happen. The first node is never a victim."""
        script: list[tuple[FaultKind, int | None, str]] = [
            ("join", self.join_at, f"node{self.nodes}"),
            ("kill", self.kill_at, "node1"),
            ("leave", self.leave_at, f"node{self.nodes - 1}"),
        ]
        faults = [Fault(kind, after, node) for kind, after, node in script if after is not None]
        return tuple(sorted(faults, key=lambda fault: fault.after))

    @property
    def run_config(self) -> RunConfig:
        """The run's table: it is founded when all the founders are there."""
        return self.run.model_copy(update={"founders": self.nodes})

    @property
    def threads(self) -> int:
        """Training threads of one node: together they fill the machine and no more."""
        return max(1, len(os.sched_getaffinity(0)) // self.nodes)
