"""Anybody can knock at a node's port, as often as they like: that must not fill its disk with events. Pure."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass

REPEAT_SECONDS = 60.0
"""The same refusal of the same host is told once in so long, with how often it happened."""
MOST_A_MINUTE = 60
"""Refusals told a minute, whoever was refused."""
MOST_KNOWN = 1024

_PORT = re.compile(r":\d+$")


@dataclass(slots=True)
class _Known:
    told_at: float
    untold: int = 0


class RefusalFlood:
    """Decides which refusals are told."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._room = float(MOST_A_MINUTE)
        self._at = 0.0
        self.untold = 0
        """Refusals that nobody was told of because there were too many in all; the owner sets it to 0 again."""

    def times(self, who: str, reason: str, now: float) -> int:
        """How often this has happened since it was told last, this time included; 0: do not tell it now.

        `who`: a peer id, or host:port for somebody who did not prove to be one: ports of a host are not told apart.
        """
        key = (_PORT.sub("", who), reason)
        known = self._known.get(key)
        if known is not None and now - known.told_at < REPEAT_SECONDS:
            known.untold += 1
            self._known.move_to_end(key)
            return 0
        self._room = min(float(MOST_A_MINUTE), self._room + (now - self._at) * MOST_A_MINUTE / 60.0)
        self._at = now
        if self._room < 1:
            self.untold += 1
            return 0
        self._room -= 1
        self._known[key] = _Known(now)
        self._known.move_to_end(key)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return 1 + (known.untold if known is not None else 0)
