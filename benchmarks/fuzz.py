"""A million random and mutated frames against everything that takes bytes or messages of others.

    python benchmarks/fuzz.py [--frames 1000000] [--seed 1]      (10 minutes; --frames 50000: one)

    decoding   what turns bytes into messages, contacts, records: from the network and from a damaged disk
    cores      round cores and reduce books of a swarm in virtual time, in every phase; after each storm the
               swarm commits two more rounds without the liar
    reduce     real reducers with payloads; then the others reduce exactly without the liar
    transfer   donors and a newcomer's fetch, with payloads; then it gets the signed state
    wire       a real member on a real port: strangers and proved peers, while an honest peer talks on over one link
               that stays up; then the member commits on

Each seed gives the same frames. Prints what came of them and how memory went, and writes a full run to
benchmarks/fuzz.log. Exit status 1 if anything raised what it must not. The tests run a fixed small storm (tests/fuzz).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.fuzz.cores import CoreStorm
from tests.fuzz.decoding import Decoding
from tests.fuzz.shells import reduce_storm, transfer_storm
from tests.fuzz.storm import Tally, resident_bytes, storm
from tests.fuzz.wire import storm_on, victim

LOG = Path(__file__).with_suffix(".log")
FULL = 1_000_000
SHARES = {"decoding": 0.7, "cores": 0.2, "reduce": 0.02, "transfer": 0.02, "wire": 0.06}
"""Of the frames asked for."""
STEPS = 10
"""Memory is read so many times in each storm."""
GROWTH = 8 << 20
"""Bytes that memory may grow by in the second half of a storm, its largest step left out: allocators and bounded tables
take what they want at once, while what leaks grows from step to step."""


class Report:
    """Prints, and keeps for the log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str = "") -> None:
        print(text, flush=True)
        self.lines.append(text)


def run_in_steps(frames: int, step: Callable[[int, int], object], memory: Callable[[], int]) -> list[int]:
    """Memory before, and after each step."""
    found = [memory()]
    for number in range(STEPS):
        step(number, max(1, frames // STEPS))
        found.append(memory())
    return found


def leaked(memory: Sequence[int]) -> int:
    """Bytes by which memory grew beyond what it ever was, in the second half, but for the largest step."""
    most = list(accumulate(memory, max))
    steps = [after - before for before, after in pairwise(most[len(memory) // 2 :])]
    return sum(steps) - max(steps)


def attack(name: str, seed: int, frames: int, tally: Tally, folder: Path) -> list[int]:
    """Storms of one level; memory before and after each."""
    if name == "decoding":
        decoding = Decoding(Random(f"{seed}/decoding"), folder)
        return run_in_steps(frames, lambda _, count: storm(decoding.targets(), count, tally), resident_bytes)
    if name == "cores":
        cores = CoreStorm(Random(f"{seed}/cores"))
        return run_in_steps(frames, lambda _, count: storm(cores.targets(), count, tally), resident_bytes)
    if name == "wire":
        with victim(folder / "victim.log") as target:

            def attack_once(number: int, count: int) -> None:
                asyncio.run(storm_on(target, Random(f"{seed}/wire/{number}"), count, tally))

            memory = run_in_steps(frames, attack_once, lambda: target.memory)
            facts = target.facts()
            for reason, count in facts["reasons"].items():
                tally.outcomes[f"the victim said: {reason}"] = count
            tally.outcomes["rounds that the victim committed meanwhile"] = facts["rounds"]
            return memory
    run = {"reduce": reduce_storm, "transfer": transfer_storm}[name]
    return run_in_steps(
        frames, lambda number, count: run(Random(f"{seed}/{name}/{number}"), count, tally), resident_bytes
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=FULL, help="in all; each level has its share")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--levels", default=",".join(SHARES), help="comma-separated; default: all")
    options = parser.parse_args()
    report = Report()
    report(f"fuzzing on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    report(f"seed {options.seed}\n")
    total, findings = 0, list[str]()
    for name in options.levels.split(","):
        tally, began = Tally(), time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            memory = attack(name, options.seed, int(options.frames * SHARES[name]), tally, Path(folder))
        seconds = time.monotonic() - began
        total += tally.frames
        findings += tally.findings
        growth = leaked(memory)
        if growth > GROWTH:
            findings.append(f"{name}: memory grew by {growth >> 20} MiB in the second half")
        sizes = " -> ".join(str(size >> 20) for size in memory)
        report(
            f"{name}: {tally.frames:,} frames, {tally.frames / seconds:,.0f} a second; {len(tally.findings)} findings"
        )
        report(f"  memory, MiB, before and after each tenth: {sizes}")
        for outcome, count in sorted(tally.outcomes.items()):
            report(f"  {count:9,}  {outcome}")
        report()
    report(f"{total:,} frames in all; {len(findings)} findings: what raised, what did not get over it, what grew")
    for finding in findings:
        report(finding)
    if options.frames >= FULL and options.levels == ",".join(SHARES):
        LOG.write_text("\n".join(report.lines) + "\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
