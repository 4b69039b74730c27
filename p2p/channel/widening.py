"""When a link needs one more bulk lane. Pure: `now` is in seconds of any monotonic clock.

A kernel lets a connection have only so much under way, and a rate times a round trip is what must be under way for that
rate. So when a link's lanes carry about as much as such connections can, in either direction, one more may carry more.
Whoever dialled the link opens it: the other side may have no address that it could dial.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

WINDOW_SECONDS = 0.5
"""The shortest time that a rate is taken over: buffers on the way take a tenth of a second and more at once."""
FULL = 0.92
"""Part of what so many connections can carry."""
MOST_LANES = 8


class Flow(NamedTuple):
    """What the bulk lanes of a link have carried so far, in bytes, and their shortest round trip in seconds."""

    delivered: int
    received: int
    round_trip: float
    lanes: int
    queued: float = 0.0
    """Seconds that the newest round trips took longer than the shortest: packets wait on the way."""
    unsent: int = 0
    """Of what they were given: it waits at our end."""

    def beside(self, other: Flow) -> Flow:
        """Both together."""
        return Flow(
            self.delivered + other.delivered,
            self.received + other.received,
            min(self.round_trip, other.round_trip),
            self.lanes + other.lanes,
            min(self.queued, other.queued),
            self.unsent + other.unsent,
        )


NO_FLOW = Flow(0, 0, 0.0, 1)


class Widening:
    """Of one link. Show it the flow a few times a second."""

    def __init__(self, under_way: Callable[[float], int]) -> None:
        """`under_way`: bytes that one connection can have under way, by its round trip."""
        self._under_way = under_way
        self._begin: tuple[float, Flow] | None = None
        """Of the window."""

    def read(self, now: float, flow: Flow) -> bool:
        """Whether the link's lanes are full."""
        if self._begin is None or self._begin[1].lanes != flow.lanes:
            self._begin = now, flow
            return False
        began, before = self._begin
        if (seconds := now - began) < WINDOW_SECONDS:
            return False
        self._begin = now, flow
        carried = max(flow.delivered - before.delivered, flow.received - before.received)
        carries = flow.lanes * self._under_way(flow.round_trip)
        return flow.lanes < MOST_LANES and carried / seconds * flow.round_trip > FULL * carries
