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

SEEDS_A_PROCESS = 16
"""Then it ends, and leaves the dead swarms to the system: to take them apart takes longer than to start another one."""
CHECK_SECONDS = 0.1


def run_seed(settings: Settings) -> Result:
    """In a process of the pool. Nothing of a swarm dies before its end: to look for it took a fifth of the time."""
    gc.disable()
    return Simulation(settings).run()


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
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        pool = context.Pool(jobs, maxtasksperchild=SEEDS_A_PROCESS)
    with pool:
        results = pool.imap_unordered(run_seed, every)
        for _ in every:
            yield _next(results, check)


def _next(results: IMapIterator[Result], check: Callable[[], None]) -> Result:
    while True:
        check()
        try:
            return results.next(CHECK_SECONDS)
        except multiprocessing.TimeoutError:
            continue
