"""Who is sent the next piece, so that a member has done with all others at the same time. Pure.

Connections share a link unequally, and when one of them has done, the rest is slow to take its place: BBR looks for
more room once in eight round trips. So nobody is sent much more, of all that it gets, than whoever was sent the least,
and the less so the nearer the end: connections that are ahead pause, and leave the link to the others.

Whoever takes nothing for a while is slow for a reason of its own, and nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

LEAD = 0.125
"""Share of what a peer has yet to get by which it may be ahead, besides one piece."""
PATIENCE = 4
"""A peer is waited for as long as the fastest one took for so many pieces on average."""


class Books(Protocol):
    """p2p.protocol.butterfly.Butterfly."""

    def has_next(self, name: str) -> bool: ...

    def gives(self, name: str) -> tuple[int, int]: ...


class Turns:
    """Of one attempt. Times are seconds of any monotonic clock."""

    def __init__(self, books: Books, peers: Iterable[str]) -> None:
        self._books = books
        self._last = dict.fromkeys(peers, 0.0)
        self._counts = dict.fromkeys(peers, 0)
        self._began = self._latest = 0.0

    def take(self, peer: str, now: float) -> None:
        """The peer is sent a piece."""
        if not any(self._counts.values()):
            self._began = now
        self._last[peer] = self._latest = now
        self._counts[peer] += 1

    def pause(self, peer: str, now: float) -> float:
        """Seconds for which to send this peer nothing, unless another is sent a piece before; 0: it is its turn."""
        given, total = self._books.gives(peer)
        if not self._counts[peer] or not total:
            return 0.0
        share = (given - 1 - LEAD * (total - given)) / total
        patience = PATIENCE * (self._latest - self._began) / max(self._counts.values())
        waits = (
            last + patience - now
            for other, last in self._last.items()
            if self._counts[other] and self._is_behind(other, share)
        )
        return max(0.0, max(waits, default=0.0))

    def _is_behind(self, other: str, share: float) -> bool:
        given, total = self._books.gives(other)
        return given < share * total and self._books.has_next(other)
