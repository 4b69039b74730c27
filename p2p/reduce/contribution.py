"""This member's own codes of a round: quantised piece by piece in kernel threads, each value once, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from ops.codec import Encoded

Source = Callable[[int, int, Encoded], None]
"""source(start, stop, out): quantise values [start, stop) of the vector to contribute into `out`. Called in kernel
threads; the vector must not change during the round."""

CHUNK_VALUES = 256 * 1024
"""Values quantised by one call of the source: a multiple of every codec's block."""


class Contribution:
    """Codes that outlive an attempt: the next one, with other spans, finds them done."""

    def __init__(self, codes: Encoded, source: Source, pool: Executor) -> None:
        assert CHUNK_VALUES % codes.codec.block == 0
        self.codes = codes
        self._source = source
        self._pool = pool
        self._jobs: dict[int, asyncio.Future[None]] = {}

    async def ensure(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Return when the codes of these ranges [start, stop) exist. Raises what the source raised, e.g. NonFinite."""
        wanted = {
            chunk: None for start, stop in ranges for chunk in range(start // CHUNK_VALUES, -(-stop // CHUNK_VALUES))
        }
        fresh = [chunk for chunk in wanted if chunk not in self._jobs]
        if fresh:
            job = asyncio.get_running_loop().run_in_executor(self._pool, self._quantise, fresh)
            job.add_done_callback(_retrieve)
            self._jobs.update(dict.fromkeys(fresh, job))
        jobs = {self._jobs[chunk] for chunk in wanted}
        if jobs:
            await asyncio.wait(jobs)  # unlike gather, leaves the jobs alone when we are cancelled
        for job in jobs:
            job.result()

    def _quantise(self, chunks: list[int]) -> None:
        for chunk in chunks:
            start, stop = chunk * CHUNK_VALUES, min((chunk + 1) * CHUNK_VALUES, self.codes.count)
            self._source(start, stop, self.codes.slice(start, stop))

    @property
    def idle(self) -> bool:
        """Whether no thread writes to the codes."""
        return all(job.done() for job in self._jobs.values())


def _retrieve(job: asyncio.Future[None]) -> None:
    """Look at the outcome, so that asyncio does not complain when an attempt was cancelled before it could."""
    if not job.cancelled():
        job.exception()
