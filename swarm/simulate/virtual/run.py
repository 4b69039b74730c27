"""One seed, from the first node to the last word."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from swarm.simulate.virtual.checker import Violation
from swarm.simulate.virtual.director import Director
from swarm.simulate.virtual.lanes import Lanes
from swarm.simulate.virtual.settings import Settings
from swarm.simulate.virtual.story import story
from swarm.simulate.virtual.watch import Watch
from swarm.simulate.virtual.world import World

PROGRESS_STEPS = 200


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    settings: Settings
    violation: str
    """What rule was broken, and how; empty if none."""
    rounds: int
    attempts: int
    """Reduces, of all sides of partitions."""
    forks: int
    """Records that were committed beside another one, by the sides of a partition."""
    faults: Counter[str]
    messages: int
    virtual_seconds: float
    cpu_seconds: float
    digest: str
    """Of the event log."""
    story: tuple[str, ...] = field(default=(), repr=False)
    """Sentences on the round in which a rule was broken, if one was."""


class Simulation:
    """A world, its faults and its watch."""

    def __init__(self, settings: Settings, lanes: type[Lanes] = Lanes) -> None:
        self.settings = settings
        self.world = World(settings, lanes)
        self.director = Director(self.world)
        self.watch = Watch(self.world, self.director)
        self._committed = -1
        self.world.on_commit = self._on_commit
        self.world.on_reduce = lambda _round: self.director.on_reduce()
        self.world.on_vote = self.director.on_vote
        self.world.on_attempt = self.director.on_attempt
        self.world.found()

    def _on_commit(self, round: int) -> None:
        if round > self._committed:
            self._committed = round
            self.director.on_commit(round)

    def run(self, progress: Callable[[Simulation], None] = lambda _simulation: None) -> Result:
        """Until all rounds are committed and the swarm is one again, or a rule is broken."""
        began, violation = time.process_time(), ""
        try:
            while not self.watch.united:
                for _ in range(PROGRESS_STEPS):
                    self.world.timeline.step()
                progress(self)
        except Violation as broken:
            violation = str(broken)
        # whatever a core raises is a rule broken, and the seed that makes it do so is wanted
        except Exception:  # noqa: BLE001
            violation = traceback.format_exc()
        return self._result(violation, time.process_time() - began)

    def _result(self, violation: str, cpu_seconds: float) -> Result:
        world = self.world
        return Result(
            settings=self.settings,
            violation=violation,
            rounds=world.checker.height,
            attempts=len(world.attempts),
            forks=world.checker.forks,
            faults=self.director.struck,
            messages=world.chronicle.messages,
            virtual_seconds=world.timeline.seconds,
            cpu_seconds=cpu_seconds,
            digest=world.chronicle.digest(),
            story=tuple(story(world.chronicle, world.checker.height + 1)) if violation else (),
        )
