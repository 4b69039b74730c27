"""Waiting that must not get out of hand: a share of all time at most, and so many seconds at a time. Pure."""

from __future__ import annotations

from p2p.protocol.serving import TokenBucket

LOOK_SECONDS = 1.0
"""Whoever waits asks more often than that; a longer pause between two questions was no waiting."""


class Patience:
    """Seconds in which something may wait. They build up again while nothing does."""

    def __init__(self, share: float, most_seconds: float) -> None:
        self._seconds = TokenBucket(share, most_seconds)
        self._since: float | None = None

    def waits(self, wanted: bool, now: float) -> bool:
        """Whether to wait on, if one wants to. To be asked a few times a second for as long as one does."""
        if self._since is not None:
            self._seconds.spend(min(now - self._since, LOOK_SECONDS))
        self._since = now if wanted and self._seconds.delay(now) <= 0 else None
        return self._since is not None
