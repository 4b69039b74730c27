"""Is a rank dead, frozen or stuck? Decided from counters alone, without a clock of its own."""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

BEAT_SECONDS = 0.5
"""How often a rank beats, and how often the node looks."""
FROZEN_SECONDS = 8.0
"""A process that has not beaten for so long is stopped, or its machine is beyond use."""
FIRST_SECONDS = 900.0
"""Before anything is known of how long a command takes: the first step may compile the model."""
LEAST_SECONDS = 120.0
FACTOR = 20.0
_REMEMBERED = 16


@dataclass(frozen=True, slots=True)
class Lost:
    """Why the group cannot go on; `rank` is None where no one of them is to blame."""

    rank: int | None
    reason: str

    def __str__(self) -> str:
        return self.reason if self.rank is None else f"rank {self.rank} {self.reason}"


class Durations:
    """How long commands took, by kind, and so how long the next one may take before it counts as stuck."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    def add(self, kind: str, seconds: float) -> None:
        self._seconds[kind].append(seconds)

    def patience(self, kind: str) -> float:
        """Seconds without any progress after which a command of this kind is stuck."""
        known = self._seconds.get(kind)
        return max(LEAST_SECONDS, FACTOR * statistics.median(known)) if known else FIRST_SECONDS


class Watch:
    """Looks at the group at intervals. Only its own looking counts as time: a machine that slept wakes unharmed."""

    def __init__(self, world: int, durations: Durations) -> None:
        self._durations = durations
        self._silent = [0.0] * world
        self._beats: tuple[int, ...] = (0,) * world
        self._stuck = 0.0
        self._progress: tuple[int, ...] = ()

    def look(self, seconds: float, beats: Sequence[int], progress: Sequence[int], kind: str | None) -> Lost | None:
        """`seconds` since the last look; `kind`: of the command under way, if there is one.

        A rank that has never beaten (rank 0 is the node itself, others may be starting) is not expected to.
        """
        seconds = min(seconds, 2 * BEAT_SECONDS)
        for rank, count in enumerate(beats):
            self._silent[rank] = self._silent[rank] + seconds if count and count == self._beats[rank] else 0.0
        self._stuck = self._stuck + seconds if kind is not None and tuple(progress) == self._progress else 0.0
        self._beats, self._progress = tuple(beats), tuple(progress)
        longest = max(range(len(beats)), key=lambda rank: self._silent[rank])
        if self._silent[longest] >= FROZEN_SECONDS:
            return Lost(longest, f"has given no sign of life for {FROZEN_SECONDS:.0f} s")
        if kind is not None and self._stuck >= self._durations.patience(kind):
            behind = [rank for rank in range(len(progress)) if progress[rank] == min(progress)]
            return Lost(
                behind[0] if len(behind) == 1 else None, f"made no progress in {kind!r} for {self._stuck:.0f} s"
            )
        return None
