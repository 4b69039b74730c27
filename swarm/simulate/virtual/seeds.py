"""Many seeds in several processes."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.pool import IMapIterator

from swarm.interrupt import interrupt_blocked_in_children
from swarm.simulate.virtual.run import Result, Simulation
from swarm.simulate.virtual.settings import Settings

BATCH = 4
"""Seeds that a process takes at a time."""
CHECK_SECONDS = 0.1


def collect_seldom() -> None:
    """The objects of a swarm live to its end: to walk them again and again took a fifth of the time."""
    gc.freeze()
    gc.disable()


def run_batch(batch: Sequence[Settings]) -> list[Result]:
    """In a process of the pool, which keeps nothing of a swarm beyond its end."""
    results = []
    for settings in batch:
        results.append(Simulation(settings).run())
        gc.collect()
    return results


def run_seeds(
    settings: Settings, seeds: Sequence[int], jobs: int, check: Callable[[], None] = lambda: None
) -> Iterator[Result]:
    """One result a seed, in the order in which they come.

    `check` is called now and then; if it raises, all processes end.
    """
    every = [replace(settings, seed=seed) for seed in seeds]
    if jobs == 1:
        yield from (Simulation(each).run(lambda _simulation: check()) for each in every)
        return
    resource_tracker.ensure_running()  # which unblocks Ctrl-C when it has to start its process
    with interrupt_blocked_in_children():
        pool = multiprocessing.get_context("spawn").Pool(jobs, collect_seldom)
    batches = [every[first : first + BATCH] for first in range(0, len(every), BATCH)]
    with pool:
        results = pool.imap_unordered(run_batch, batches)
        for _ in batches:
            yield from _next(results, check)


def _next(results: IMapIterator[list[Result]], check: Callable[[], None]) -> list[Result]:
    while True:
        check()
        try:
            return results.next(CHECK_SECONDS)
        except multiprocessing.TimeoutError:
            continue
