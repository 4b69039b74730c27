"""Batches made ahead of the trainer, in threads of their own.

What is made ahead is only a guess at what will be asked for: the trainer names the samples of each batch it takes. So a
stop in the middle of a round loses no batch and doubles none, whatever was ready by then.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from types import TracebackType

from swarm.data.batch import Batch

DEPTH = 4
"""Batches that are ready or being made."""
THREADS = 2
_STOP_POLL_SECONDS = 0.1

Indices = tuple[int, ...]
Make = Callable[[Sequence[int]], Batch]


def looking_ahead(samples: Iterator[int], batch_size: int, batches: int) -> Iterator[tuple[Indices, list[Indices]]]:
    """The indices of each of so many batches, and of those that come after it; ends early when the samples do.

    Draws no more samples than all batches together hold.
    """
    rest = islice(iter(lambda: tuple(islice(samples, batch_size)), ()), batches)
    window = deque(islice(rest, DEPTH + 1))
    while window:
        current = window.popleft()
        yield current, list(window)
        window.extend(islice(rest, 1))


class Feed:
    """For one taker. waited_seconds: how long it has waited for data, in all."""

    def __init__(self, make: Make, depth: int = DEPTH, threads: int = THREADS) -> None:
        """make: Reader.batch; several threads may be in it, each at a batch of its own. depth: 0 makes none ahead."""
        self._make, self._depth = make, depth
        self._pool = ThreadPoolExecutor(threads, "feed")
        self._ahead: dict[tuple[int, ...], Future[Batch]] = {}
        self.waited_seconds = 0.0

    def expect(self, batches: Iterable[Sequence[int]]) -> None:
        """Which batches will be asked for next, in this order; as many as fit are made ahead.

        Of what was expected before, only what is expected still is kept.
        """
        before, self._ahead = self._ahead, {}
        for indices in map(tuple, islice(batches, self._depth)):
            self._ahead[indices] = before.get(indices) or self._pool.submit(self._make, indices)
        for indices, future in before.items():
            if indices not in self._ahead:
                future.cancel()

    def batch(self, indices: Sequence[int], should_stop: Callable[[], bool] = lambda: False) -> Batch | None:
        """The batch of these samples, or None if should_stop() comes true while it is waited for.

        Raises what making it raised. One that was not expected is made all the same.
        """
        began, wanted = time.monotonic(), tuple(indices)
        future = self._ahead.get(wanted) or self._pool.submit(self._make, wanted)
        self._ahead.pop(wanted, None)
        try:
            while not should_stop():
                if wait((future,), _STOP_POLL_SECONDS).done:
                    return future.result()
            return None
        finally:
            self.waited_seconds += time.monotonic() - began

    def close(self) -> None:
        """Make no more. What is being made is not waited for: a read over the network may take its time."""
        self.expect(())
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
