"""Turns what the member and the state transfer notice into events."""

from __future__ import annotations

import time
from collections.abc import Callable

from swarm.events import EventLog, Notice, Refused, event_of
from swarm.events.flood import RefusalFlood


class EventListener:
    """The `p2p.listener.Listener` of a node."""

    def __init__(self, log: EventLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._flood = RefusalFlood()

    def __call__(self, event: str, fields: dict[str, object]) -> None:
        written = event_of(event, fields)
        if isinstance(written, Refused):
            self._refused(written)
        else:
            self._log.write(written)

    def _refused(self, event: Refused) -> None:
        times = self._flood.times(event.peer, event.reason, self._clock())
        if not times:
            return
        if self._flood.untold:
            self._log.write(Notice(message=f"{self._flood.untold:,} more refusals: too many to list them"))
            self._flood.untold = 0
        self._log.write(event.model_copy(update={"times": times}))
