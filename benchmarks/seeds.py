"""Ten thousand fault schedules in virtual time, on the protocol that nodes run; no rule may be broken in any.

python benchmarks/seeds.py                      all campaigns, an hour; appended to benchmarks/seeds.log
python benchmarks/seeds.py --only sixty-four    what `make test-sim` runs
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import sys
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).parent.parent))

from swarm.interrupt import interrupt_held
from swarm.simulate.virtual.command import run_many
from swarm.simulate.virtual.settings import Settings

LOG = Path(__file__).with_suffix(".log")
CAMPAIGNS = {
    "sixty-four": (Settings(nodes=64, rounds=2, faults="chaos"), range(1000)),
    "chaos": (Settings(nodes=16, rounds=4, faults="chaos"), range(3000)),
    "churn": (Settings(nodes=8, rounds=5, faults="churn"), range(3000)),
    "partitions": (Settings(nodes=8, rounds=5, faults="partitions"), range(3000)),
}


class Tee(io.TextIOBase):
    """Writes to several files at once."""

    def __init__(self, *files: TextIO) -> None:
        self._files = files

    def write(self, text: str) -> int:
        for file in self._files:
            file.write(text)
            file.flush()
        return len(text)


def campaign(name: str, jobs: int) -> int:
    """Run one; returns the exit status."""
    settings, seeds = CAMPAIGNS[name]
    with LOG.open("a") as log, contextlib.redirect_stdout(Tee(sys.stdout, log)), interrupt_held() as check:
        print(
            f"{settings.nodes} nodes, {settings.rounds} rounds or more, {settings.faults}, seeds 0 to {len(seeds) - 1}"
        )
        print(f"{platform.machine()}, {jobs} of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the beginning")
        status = run_many(settings, seeds, jobs, check)
        print()
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CAMPAIGNS)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    return max(campaign(name, options.jobs) for name in ([options.only] if options.only else CAMPAIGNS))


if __name__ == "__main__":
    sys.exit(main())
