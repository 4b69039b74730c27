"""Faults drawn at random. Pure: what the swarm looks like goes in, the next action comes out.

A seed fixes the dice, not the run: what they fall on depends on how fast real processes are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from swarm.simulate.faults import Chaos, Fault, Kind

BOOTSTRAP_SECONDS = (2.0, 10.0)
"""How long the bootstrap process stays down."""

Draw = Literal["start", "kill", "freeze", "leave"]


@dataclass(frozen=True, slots=True)
class Scene:
    """The swarm as far as the dice need it, by names."""

    running: Sequence[str]
    """Frozen ones are not among them."""
    frozen: Collection[str]
    holders: Collection[str]
    """Those of the running that hold the state."""
    down: Sequence[str]
    """Killed, or left."""
    coordinator: str | None
    bootstrap: bool
    """Whether it runs, and is not frozen."""


def wrong_clock(chaos: Chaos, name: str) -> float:
    """By how many seconds the wall clock of that node is wrong: the same in all of its lives."""
    return Random(f"{chaos.seed} {name}").uniform(-chaos.clock, chaos.clock) if chaos.clock else 0.0


class Dice:
    """Draws one action after the other."""

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self._random = Random(chaos.seed)

    def pause(self) -> float:
        """Seconds until the next action."""
        return self._random.uniform(*self._chaos.every)

    def draw(self, scene: Scene, at: float) -> Fault | None:
        """What happens now, `at` seconds after the founding; None if nothing may."""
        may_start = len(scene.running) + len(scene.frozen) < self._chaos.nodes and self._chaos.start > 0
        kind = self._kind(may_start)
        if kind is None:
            return None
        if kind != "start":
            victim = self._victim(scene)
            if victim is not None:
                return self._harm(kind, victim, at)
        return self._start(scene, at) if may_start else None

    def pick(self, names: Sequence[str]) -> str:
        return self._random.choice(names)

    def _kind(self, may_start: bool) -> Draw | None:
        chaos = self._chaos
        weights: dict[Draw, float] = {"kill": chaos.kill, "freeze": chaos.freeze, "leave": chaos.leave}
        if may_start:
            weights["start"] = chaos.start
        if not any(weights.values()):
            return None
        return self._random.choices(list(weights), list(weights.values()))[0]

    def _victim(self, scene: Scene) -> str | None:
        """Somebody the run can do without."""
        if scene.bootstrap and self._random.random() < self._chaos.bootstrap:
            return "bootstrap"
        spare = len(scene.holders) - 1 >= self._chaos.least
        possible = [name for name in scene.running if spare or name not in scene.holders]
        if scene.coordinator in possible and self._random.random() < self._chaos.coordinator:
            return scene.coordinator
        return self._random.choice(possible) if possible else None

    def _harm(self, kind: Draw, victim: str, at: float) -> Fault:
        assert kind != "start"
        if kind == "freeze":
            return Fault(kind=kind, node=victim, at=at, seconds=self._lasting(self._chaos.freeze_seconds))
        if victim == "bootstrap":
            return Fault(kind="restart", node=victim, at=at, seconds=self._lasting(BOOTSTRAP_SECONDS))
        return Fault(kind=kind, node=victim, at=at)

    def _start(self, scene: Scene, at: float) -> Fault:
        again: Kind = "restart"
        if scene.down and self._random.random() < 0.5:
            return Fault(kind=again, node=self._random.choice(scene.down), at=at)
        return Fault(kind="join", at=at)

    def _lasting(self, span: tuple[float, float]) -> float:
        return max(0.1, self._random.uniform(*span))
