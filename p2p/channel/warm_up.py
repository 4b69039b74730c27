"""How a young bulk lane gets as fast as the others: with padding, sent while no frame goes by it. Pure.

On a long way a connection needs a second or more until it has found out how much it can carry, if it always has
something to send. Frames that it carried meanwhile would be late, and all would wait for them. So a link's further
lanes are given padding at first, about as much in all as twice what they can have under way.
"""

from __future__ import annotations

GROWN = 0.8
"""Of what a connection can have under way: it need not grow any more."""
PLATEAU_ROUND_TRIPS, PLATEAU_SECONDS = 4, 1.0
"""The longer of both. BBR looks for three round trips whether it gets faster by a quarter."""
RISE = 1.25
ENOUGH = 4
"""Times what a connection can have under way: more padding is not sent, whatever comes of it."""


class WarmUp:
    """Of one connection. Ask for `padding` several times a round trip, or a few times a second, until it is `over`."""

    def __init__(self) -> None:
        self.over = False
        self._sent = 0
        self._since: float | None = None
        self._window = 0
        """When the connection had last become faster by RISE, and how much it carried in a round trip then."""

    def padding(self, now: float, window: int, round_trip: float, most: int, pending: int) -> int:
        """Bytes to send now. `window`: what it carries in a round trip at present; `most`: what it can have under way;
        `pending`: what waits for it."""
        if self._since is None or window >= RISE * self._window:
            self._since, self._window = now, window
        stands = now - self._since > max(PLATEAU_ROUND_TRIPS * round_trip, PLATEAU_SECONDS)
        if window >= GROWN * most or self._sent >= ENOUGH * most or stands:
            self.over = True
        if self.over or pending:
            return 0
        size = min(4 * window, most)  # what it carries in this round trip and, doubled, nearly in the next
        self._sent += size
        return size
