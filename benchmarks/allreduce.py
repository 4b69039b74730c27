"""All-reduce of one vector between N processes on this machine: ours against hivemind and gloo, in one go.

    python benchmarks/allreduce.py [--quick]      (10 minutes at most; --quick: 3)

Ours is int8 and encrypted, the others are plain TCP (hivemind's daemon encrypts, too). All contenders of a line are
started together, in processes of their own, and take turns; the first turn is a warm-up. A turn lasts from the first
process' start to the last one's end. Prints a table; a full run writes it to benchmarks/allreduce.log, too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.allreduce_contenders import (
    BYTES_PER_VALUE,
    CONTENDERS,
    WIRE_BITS,
    Failure,
    Gloo,
    Hivemind,
    Ours,
    worker,
)

LOG = Path(__file__).with_suffix(".log")
FULL = [(4, 100), (4, 25), (2, 100), (2, 25), (8, 25), (8, 100)]
QUICK = [(4, 25), (2, 25)]
START_S = 90.0
SLOW_TURNS = 3
"""Turns of contenders that take long; the others have more."""
OURS, GLOO, UNIFORM8, NONE = CONTENDERS


class TooSlow(Exception):
    """A contender used up its time."""


@dataclass
class Turn:
    seconds: float
    cpu_seconds: float
    """Of all processes of the contender but those that they started."""
    received: float
    """Bytes a member as counted at its sockets; 0 where the contender does not tell."""
    loopback: float
    """Bytes a member as counted at the loopback device: with TCP headers and acknowledgements."""


@dataclass
class Team:
    """The processes of one contender."""

    name: str
    members: int
    count: int
    options: dict[str, Any]
    turns: list[Turn] = field(default_factory=list)
    error: float = float("nan")
    failure: str = ""

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for rank in range(self.members):
            ours, theirs = context.Pipe()
            arguments = (self.name, rank, self.members, self.count, theirs, self.options)
            process = context.Process(target=worker, args=arguments)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)
        deadline = time.monotonic() + START_S
        while (texts := self._all(deadline)) != ["ready"] * self.members:
            self._tell(texts)

    def _tell(self, order: Any) -> None:
        for pipe in self.pipes:
            pipe.send(order)

    def _all(self, deadline: float) -> list[Any]:
        answers = []
        for pipe in self.pipes:
            if not pipe.poll(max(0.0, deadline - time.monotonic())):
                raise TooSlow
            answers.append(pipe.recv())
            if isinstance(answers[-1], Failure):
                raise ChildProcessError(answers[-1])
        return answers

    def turn(self, limit: float) -> Turn:
        deadline = time.monotonic() + limit
        self._tell("prepare")
        self._all(deadline)
        before = loopback_bytes()
        self._tell("run")
        answers = self._all(deadline)
        loopback = (loopback_bytes() - before) / self.members
        starts, stops, cpus, received = zip(*answers, strict=True)
        return Turn(max(stops) - min(starts), sum(cpus), sum(received) / self.members, loopback)

    def check(self) -> None:
        self._tell("error")
        self.error = max(self._all(time.monotonic() + START_S))

    def stop(self) -> None:
        """Politely, then with all that the processes started."""
        try:
            self._tell("stop")
            self._all(time.monotonic() + 10.0)
        except (OSError, EOFError, TooSlow):
            pass  # it is ended below
        for process in self.processes:
            process.join(1.0)
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.join()

    @property
    def seconds(self) -> float:
        return statistics.median(turn.seconds for turn in self.turns) if self.turns else float("nan")

    @property
    def formula_bytes(self) -> float:
        return 2 * (self.members - 1) / self.members * self.count * WIRE_BITS[self.name] / 8


def loopback_bytes() -> int:
    """Bytes sent through the loopback device so far; 0 where that is not known."""
    try:
        lines = Path("/proc/net/dev").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split(":")[1].split()[8]) for line in lines if line.strip().startswith("lo:")), 0)


def available_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def groups_of(teams: Iterable[Team]) -> list[list[Team]]:
    """Teams that run side by side, taking turns: as many as fit in memory."""
    room, groups, used = 0.7 * available_bytes(), [[]], 0.0  # type: tuple[float, list[list[Team]], float]
    for team in teams:
        need = team.members * (team.count * BYTES_PER_VALUE[team.name] + 400e6)
        if groups[-1] and used + need > room:
            groups.append([])
            used = 0.0
        groups[-1].append(team)
        used += need
    return groups


def compete(team_group: list[Team], turns: int, limit: float, deadline: float) -> None:
    """Warm up, then take turns. A contender that is too slow or fails is left out from then on, and says so."""
    running: list[Team] = []
    try:
        for team in team_group:
            if time.monotonic() > deadline:
                team.failure = "left out: out of time"
                continue
            running.append(team)
            guarded(team, team.start)
        for number in range(turns + 1):
            for team in running:
                if number > SLOW_TURNS and team.name in (UNIFORM8, NONE):
                    continue
                if team.failure or (number > 1 and time.monotonic() > deadline):
                    continue
                guarded(team, lambda team=team, number=number: keep(team, number, limit))  # type: ignore[misc]
        for team in running:
            if team.turns:
                guarded(team, team.check)
    finally:
        for team in running:
            team.stop()


def keep(team: Team, number: int, limit: float) -> None:
    turn = team.turn(limit)
    if number or turn.seconds > limit / 3:
        team.turns.append(turn)  # a slow contender's warm-up is all there is
    if sum(turn.seconds for turn in team.turns) > limit:
        team.failure = "stopped: out of time" if len(team.turns) < 2 else "stopped early"


def guarded(team: Team, action: Any) -> None:
    try:
        action()
    except TooSlow:
        team.failure = "out of time"
    except (EOFError, OSError) as error:
        team.failure = f"failed: {error or type(error).__name__}"


def line(team: Team, by_name: dict[str, Team]) -> str:
    if not team.turns:
        return f"{team.members:2} {team.count / 1e6:4.0f}M  {team.name:<18} {team.failure or 'no turn'}"
    times = [turn.seconds for turn in team.turns]
    wire = statistics.median(turn.received or turn.loopback for turn in team.turns)
    cpu_ns = statistics.median(turn.cpu_seconds for turn in team.turns) / team.members / team.count * 1e9
    cpu = "           " if team.name in (UNIFORM8, NONE) else f"{cpu_ns:5.2f} ns CPU"
    ours = by_name[OURS].seconds if OURS in by_name else float("nan")
    return (
        f"{team.members:2} {team.count / 1e6:4.0f}M  {team.name:<18} {team.seconds:7.3f} s"
        f"  ({min(times):.3f}-{max(times):.3f}, {len(times)} turns)"
        f"  {team.seconds / ours:6.2f} x ours"
        f"  {wire / 1e6:7.1f} MB a node = {wire / team.formula_bytes:.3f} x formula"
        f"  {cpu}  error {team.error:.1e}{'' if team.error < 0.2 else ' WRONG'}  {team.failure}"
    )


class Report:
    """Prints, and keeps for the log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        print(text, flush=True)
        self.lines.append(text.rstrip())


def explain(print_and_log: Report) -> None:
    print_and_log(f"all-reduce on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name, kind in ((OURS, Ours), (GLOO, Gloo), (UNIFORM8, Hivemind)):
        print_and_log(f"  {name}: {' '.join((kind.__doc__ or '').split())}")
    print_and_log(
        "  bytes: ours as received at the sockets, as encrypted; others' at the loopback device, TCP headers included."
    )
    print_and_log(
        "  CPU: a value and node; hivemind's processes start others and are not counted. Error: relative, L2.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="25M values and up to 4 processes only")
    parser.add_argument("--cases", help="instead: e.g. 4x100,2x25 (processes x million values)")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="comma-separated; default: all")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one contender in one case")
    parser.add_argument("--total", type=float, default=480.0, help="seconds after which nothing new is started")
    parser.add_argument("--lanes", type=int, default=1, help="our bulk connections between two processes")
    options = parser.parse_args()
    cases = QUICK if options.quick else FULL
    if options.cases:
        cases = [tuple(map(int, case.split("x"))) for case in options.cases.split(",")]  # type: ignore[misc]
    deadline = time.monotonic() + options.total
    report = Report()
    explain(report)
    for members, millions in cases:
        teams = [
            Team(name, members, millions * 1_000_000, {"lanes": options.lanes})
            for name in options.contenders.split(",")
        ]
        for group in groups_of(teams):
            compete(group, options.turns, options.limit, deadline)
        by_name = {team.name: team for team in teams}
        for team in teams:
            report(line(team, by_name))
        report("")
    if cases == FULL and options.contenders == ",".join(CONTENDERS):
        LOG.write_text("\n".join(report.lines))


if __name__ == "__main__":
    main()
