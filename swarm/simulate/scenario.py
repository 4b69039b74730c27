"""What a simulation does: how many nodes, for how long, and what happens to them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from p2p.errors import SwarmError
from swarm.config import NodeConfig, RunConfig
from swarm.simulate.chaos import wrong_clock
from swarm.simulate.faults import BadFaults, Chaos, Fault, FaultScript, Kind, check_faults, named

ROUNDS = 10


class ImpossibleScenario(SwarmError):
    """The numbers asked for do not make a simulation."""


@dataclass(frozen=True)
class Scenario:
    """Nodes are called node0, node1, ...; rounds count from 1 (round 0 only forms the first view)."""

    nodes: int = 4
    rounds: int | None = ROUNDS
    """None with chaos, which ends by the clock."""
    script: FaultScript = field(default_factory=FaultScript)
    run: RunConfig = field(default_factory=RunConfig)
    node: NodeConfig = field(default_factory=NodeConfig)
    """What all nodes have in common; names, places and addresses are the simulation's."""
    stall_seconds: float = 180.0
    """The simulation gives up when no node gets anything done for so long."""

    def __post_init__(self) -> None:
        if self.nodes < 1 or (self.rounds is not None and self.rounds < 1):
            raise ImpossibleScenario("a simulation needs at least 1 node and 1 round: raise --nodes and --rounds")
        if (self.chaos is None) == (self.rounds is None):
            raise ImpossibleScenario("[chaos] lasts for its seconds: leave out --rounds")
        if self.chaos is not None and self.nodes > self.chaos.nodes:
            raise BadFaults(f"[chaos] allows {self.chaos.nodes} nodes: raise its nodes, or lower --nodes {self.nodes}")
        faults = named(self.script.faults, self.founders)
        object.__setattr__(self, "script", self.script.model_copy(update={"faults": faults}))
        check_faults(self.script, self.founders, self.rounds)

    @classmethod
    def demo(cls, nodes: int, rounds: int, run: RunConfig, node: NodeConfig) -> Scenario:
        """One node joins after a third of the rounds and one leaves after two thirds, where that is possible."""
        join_at = rounds * 3 // 10 or None
        leave_at = rounds * 6 // 10 or None if nodes > 1 and rounds > 1 else None
        script = FaultScript(faults=shorthands(nodes, rounds, join_at, leave_at, None))
        return cls(nodes, rounds, script, run, node)

    @property
    def founders(self) -> tuple[str, ...]:
        return tuple(f"node{index}" for index in range(self.nodes))

    @property
    def chaos(self) -> Chaos | None:
        return self.script.chaos

    @property
    def clocks(self) -> tuple[float, ...]:
        """Seconds by which wall clocks are wrong, or may be."""
        return (*self.script.clock.values(), self.chaos.clock if self.chaos else 0.0)

    def clock_of(self, name: str) -> float:
        """By how many seconds the wall clock of that node is wrong."""
        drawn = wrong_clock(self.chaos, name) if self.chaos else 0.0
        return self.script.clock.get(name, drawn)

    @property
    def partitions(self) -> bool:
        """Whether nodes can lose sight of each other."""
        return any(fault.kind == "cut" for fault in self.script.faults)

    @property
    def run_config(self) -> RunConfig:
        """The run's table: it is founded when all the founders are there."""
        return self.run.model_copy(update={"founders": self.nodes})

    @property
    def threads(self) -> int:
        """Training threads of one node: together they fill the machine and no more."""
        return max(1, len(os.sched_getaffinity(0)) // (self.chaos.nodes if self.chaos else self.nodes))


def shorthands(
    nodes: int, rounds: int | None, join_at: int | None, leave_at: int | None, kill_at: int | None
) -> tuple[Fault, ...]:
    """What --join-at, --leave-at and --kill-at stand for. The first node is never a victim. Raises BadFaults."""
    asked: list[tuple[Kind, int | None, str | None]] = [
        ("join", join_at, None),
        ("kill", kill_at, "node1"),
        ("leave", leave_at, f"node{nodes - 1}"),
    ]
    for kind, after, _ in asked:
        if after is not None and (after < 1 or (rounds is not None and after >= rounds)):
            most = f" to {rounds - 1}, or raise --rounds {rounds}" if rounds is not None else " on"
            raise BadFaults(f"--{kind}-at {after}: give a round from 1{most}")
    return tuple(Fault(kind=kind, after_round=after, node=node) for kind, after, node in asked if after is not None)
