"""How many newcomers a donor serves at a time: as few as fill its link.

Those who share a link all end late; but one whose own link is slow must not keep the rest waiting. Which of the two it
is shows in what leaves a second: so now and then one more or one fewer is tried, and kept if that is worth it.
"""

from __future__ import annotations

from typing import Literal

GAIN = 1.15
"""One more must make the whole so many times faster."""
TOLERANCE = 0.95
"""One fewer may leave so much of it."""
REST = 10.0
"""After a trial that failed, the next waits so many times as long as it took."""


class Width:
    """Hill climbing on the bytes that leave a second; see the module's text."""

    def __init__(self, most: int) -> None:
        """`most`: newcomers at a time."""
        assert most >= 1
        self.served = 1
        self._most = most
        self._rate = 0.0
        """Bytes a second with as many as were served before the trial."""
        self._trial: Literal[-1, 0, 1] = 0
        self._next: Literal[-1, 1] = 1
        self._rested = 0.0
        self._since: float | None = None
        self._bytes = 0
        self._answers = 0

    def full(self, now: float) -> None:
        """As many answers are under way as may be."""
        if self._since is None:
            self._since, self._bytes, self._answers = now, 0, 0

    def void(self) -> None:
        """Fewer were under way than may be: what leaves says nothing about the link."""
        self._since = None

    def gave(self, size: int, answers: int, now: float) -> None:
        """One of `answers` answers that were under way has left, of `size` bytes."""
        if self._since is None:
            return
        self._bytes += size
        self._answers += 1
        if self._answers >= answers and now > self._since:
            elapsed, self._since = now - self._since, None
            self._decide(self._bytes / elapsed, elapsed, now)

    def _decide(self, rate: float, elapsed: float, now: float) -> None:
        worth = rate >= self._rate * (GAIN if self._trial > 0 else TOLERANCE)
        if self._trial and not worth:
            self.served -= self._trial
            self._trial, self._rested = 0, now + REST * elapsed
            return
        self._rate = rate
        if self._trial == 0:
            if now < self._rested:
                return
            self._trial, self._next = self._next, -1 if self._next > 0 else 1
        if 1 <= self.served + self._trial <= self._most:
            self.served += self._trial
        else:
            self._trial = 0
