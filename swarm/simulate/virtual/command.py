"""`swarm simulate --virtual`: progress while it runs, a summary at the end, and how to see a failure again."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from p2p.errors import SwarmError
from p2p.protocol.model import MAX_FRAGMENTS
from swarm.interrupt import interrupt_held
from swarm.simulate.virtual.links import PROFILES
from swarm.simulate.virtual.mixes import MIXES
from swarm.simulate.virtual.run import Result, Simulation
from swarm.simulate.virtual.seeds import run_seeds
from swarm.simulate.virtual.settings import Settings

PROGRESS_SECONDS = 1.0
MOST_NODES = 4096
ROUNDS = 10


class BadSimulation(SwarmError):
    """What is asked for cannot be simulated."""


def simulate(
    nodes: int,
    rounds: int | None,
    faults: str,
    links: str | None,
    seed: int | None,
    seeds: str | None,
    jobs: int | None,
    fragments: int = 1,
) -> int:
    """Run what the options ask for; returns the exit status. Raises BadSimulation."""
    settings = settings_of(nodes, ROUNDS if rounds is None else rounds, faults, links, seed or 0, fragments)
    if seeds is not None and seed is not None:
        raise BadSimulation("--seed and --seeds: give one of them")
    with interrupt_held() as check:
        if seeds is None:
            return run_one(settings, check)
        return run_many(settings, seeds_of(seeds), jobs or len(os.sched_getaffinity(0)), check)


def settings_of(nodes: int, rounds: int, faults: str, links: str | None, seed: int, fragments: int = 1) -> Settings:
    """Raises BadSimulation."""
    if not 2 <= nodes <= MOST_NODES:
        raise BadSimulation(f"--nodes {nodes}: a virtual swarm has 2 to {MOST_NODES} nodes")
    if rounds < 1:
        raise BadSimulation(f"--rounds {rounds}: give 1 or more")
    if faults not in MIXES:
        raise BadSimulation(f"--faults {faults}: with --virtual it is one of {', '.join(MIXES)}")
    if links is not None and links not in PROFILES:
        raise BadSimulation(f"--links {links}: it is one of {', '.join(PROFILES)}")
    if not 1 <= fragments <= MAX_FRAGMENTS:
        raise BadSimulation(f"--fragments {fragments}: give 1 to {MAX_FRAGMENTS}")
    return Settings(nodes=nodes, rounds=rounds, seed=seed, faults=faults, links=links, fragments=fragments)


def seeds_of(text: str) -> Sequence[int]:
    """A:B as the seeds from A to B - 1. Raises BadSimulation."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise BadSimulation(f"--seeds {text}: write A:B for the seeds from A to B - 1, as in 0:1000")
    return range(int(first), int(last))


def run_one(settings: Settings, check: Callable[[], None]) -> int:
    """Run one seed; returns the exit status. `check` may end it."""
    line = ProgressLine()

    def progress(simulation: Simulation) -> None:
        check()
        world = simulation.world
        line.show(
            f"round {max(0, world.checker.height)} of {settings.rounds}, virtual {world.timeline.seconds:,.0f} s, "
            f"{sum(simulation.director.struck.values())} faults, {len(world.live())} nodes live"
        )

    total = Totals()
    try:
        result = Simulation(settings).run(progress)
    finally:
        line.close()
    total.add(result)
    _say(*total.lines(), f"event-log hash      {result.digest}")
    if result.violation:
        _say("", *result.story, "", f"BROKEN: {result.violation}", f"seen again with     {replay_command(settings)}")
    return int(bool(result.violation))


def run_many(settings: Settings, seeds: Sequence[int], jobs: int, check: Callable[[], None]) -> int:
    """Run many seeds; returns the exit status. `check` may end it."""
    line, total, began = ProgressLine(), Totals(), time.monotonic()
    try:
        for result in run_seeds(settings, seeds, jobs, check):
            total.add(result)
            if result.violation:
                line.close()
                _say(f"BROKEN: {_last_line(result.violation)}", f"  {replay_command(result.settings)}")
            pace = total.runs / (time.monotonic() - began)
            left = (len(seeds) - total.runs) / pace
            line.show(f"{total.runs} of {len(seeds)} seeds, {total.broken} broken, {pace:.1f}/s, {left:.0f} s left")
    finally:
        line.close()
    _say(*total.lines())
    return int(total.broken > 0)


def replay_command(settings: Settings) -> str:
    """What to type to see this seed's run again, and its story."""
    links = f" --links {settings.links}" if settings.links else ""
    fragments = f" --fragments {settings.fragments}" if settings.fragments > 1 else ""
    return (
        f"swarm simulate --virtual --nodes {settings.nodes} --rounds {settings.rounds} --faults {settings.faults} "
        f"--seed {settings.seed}{links}{fragments}"
    )


@dataclass
class Totals:
    """Of one or many runs."""

    runs: int = 0
    broken: int = 0
    rounds: int = 0
    attempts: int = 0
    forks: int = 0
    messages: int = 0
    virtual_seconds: float = 0.0
    cpu_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    _began: float = field(default_factory=time.monotonic)

    def add(self, result: Result) -> None:
        self.runs += 1
        self.broken += bool(result.violation)
        self.rounds += result.rounds
        self.attempts += result.attempts
        self.forks += result.forks
        self.messages += result.messages
        self.virtual_seconds += result.virtual_seconds
        self.cpu_seconds += result.cpu_seconds
        self.faults.update(result.faults)

    def lines(self) -> list[str]:
        faults = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.faults.items())) or "none"
        return [
            f"seeds               {self.runs:,}, {self.broken} with a broken rule",
            f"rounds              {self.rounds:,} committed, {self.attempts:,} attempts at them",
            f"forks               {self.forks:,} rounds committed by more than one side of a partition",
            f"faults              {faults}",
            f"messages            {self.messages:,}",
            f"virtual time        {self.virtual_seconds:,.1f} s",
            f"wall time           {time.monotonic() - self._began:,.1f} s, CPU {self.cpu_seconds:,.1f} s",
        ]


class ProgressLine:
    """One line that is written over on a terminal; a new one now and then elsewhere."""

    def __init__(self) -> None:
        self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._open = False

    def show(self, text: str) -> None:
        now = time.monotonic()
        if now - self._shown < (PROGRESS_SECONDS if self._terminal else 10 * PROGRESS_SECONDS):
            return
        self._shown, self._open = now, self._terminal
        sys.stderr.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Leave the line as the next text begins."""
        if self._open:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._open = False


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
