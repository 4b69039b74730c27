"""Virtual time in ticks of a millisecond, and what happens when."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

TICKS = 1000
"""Ticks in a second."""

Event = tuple[Callable[[Any, Any], None], Any, Any]
"""(function, its two arguments): a tuple, because there are a hundred thousand of them in a short run."""


def ticks(seconds: float) -> int:
    """The nearest number of ticks."""
    return round(seconds * TICKS)


class Timeline:
    """Events by tick, those of a tick in the order in which they were put there: so every run of a seed is the same.

    The heap holds ticks, not events: what arrives at many nodes at once costs one entry.
    """

    def __init__(self) -> None:
        self.tick = 0
        self.buckets: dict[int, list[Event]] = {}
        self._heap: list[int] = []

    @property
    def seconds(self) -> float:
        return self.tick / TICKS

    def at(self, tick: int, function: Callable[[Any, Any], None], one: Any = None, other: Any = None) -> None:
        """Call `function(one, other)` at `tick`; in this tick, if that is past."""
        self.bucket(max(tick, self.tick)).append((function, one, other))

    def after(self, delay: int, function: Callable[[Any, Any], None], one: Any = None, other: Any = None) -> None:
        """Call `function(one, other)` so many ticks from now."""
        self.bucket(self.tick + max(delay, 0)).append((function, one, other))

    def bucket(self, tick: int) -> list[Event]:
        """The events of a tick that is not past; append to it."""
        found = self.buckets.get(tick)
        if found is None:
            found = self.buckets[tick] = []
            heapq.heappush(self._heap, tick)
        return found

    def step(self) -> bool:
        """Advance to the next tick in which something happens, and let all of it happen. False if nothing is left.

        If an event raises, the rest of its tick is lost: the run is over.
        """
        if not self._heap:
            return False
        self.tick = heapq.heappop(self._heap)
        events = self.buckets[self.tick]
        for function, one, other in events:  # grows while it is walked through
            function(one, other)
        del self.buckets[self.tick]
        return True

    def pending(self) -> int:
        """Events that are still to happen."""
        return sum(map(len, self.buckets.values()))
