"""Many seeds in several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace

from swarm.simulate.virtual.run import Result, Simulation
from swarm.simulate.virtual.settings import Settings

BATCH = 4
"""Seeds that a process takes at a time."""


def run_seed(settings: Settings) -> Result:
    return Simulation(settings).run()


def run_seeds(settings: Settings, seeds: Sequence[int], jobs: int) -> Iterator[Result]:
    """One result a seed, in the order in which they come. Leaving the iteration ends the processes."""
    every = [replace(settings, seed=seed) for seed in seeds]
    if jobs == 1:
        yield from map(run_seed, every)
        return
    # the others never see Ctrl-C, not even while they start: it is this process' matter, which ends them
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pool = multiprocessing.get_context("spawn").Pool(jobs)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with pool:
        yield from pool.imap_unordered(run_seed, every, BATCH)
