"""How fast this node's link is, each way, as its reduces show. Pure.

While there is something to send to nearly everybody, what the connections carry is what the uplink can do. At other
times the node waits for others, and what it carries shows only that the uplink can do at least as much: who sends to
one slow member does not take itself for slow. What others could send cannot be seen from here, so of a reduce's
receiving the fastest window counts. What is measured decides how much of the vector a member reduces
(p2p/protocol/shares.py).
"""

from __future__ import annotations

from collections import deque

from p2p.channel.meter import Load
from p2p.protocol.shares import UNKNOWN

WINDOW_SECONDS = 0.5
"""The shortest time that says anything: a link's buffers take a tenth of a second and more at once."""
BACKLOGGED = 0.75
"""Share of the others for whom there is something to send: of two or three all, of more all but a few."""
WINDOWS = 3
"""The fastest of so many windows is what the uplink can do: BBR stops sending for a moment at times, to find out how
short the way is. And yet a link that becomes slow in the middle of a reduce is known as slow at its end."""
NEWEST_REDUCE = 0.5
"""Weight of the newest reduce in receiving."""


class RateMeter:
    """`read` it several times a second while a reduce goes on, and `pause` it between reduces."""

    def __init__(self) -> None:
        self.rates = UNKNOWN
        self._begin: tuple[float, Load] | None = None
        """Of the window."""
        self._backlogged = False
        """At every reading of the window so far."""
        self._ups: deque[float] = deque(maxlen=WINDOWS)
        """Sending, in the newest windows in which there was enough to send."""
        self._fastest = 0.0
        """Window of the present reduce, receiving."""

    def read(self, now: float, load: Load, backlogged: float) -> None:
        """`load`: what the connections have carried by now. `backlogged`: share of the others for whom there is
        something to send at present."""
        busy = backlogged >= BACKLOGGED
        if self._begin is None or self._begin[1].connections != load.connections:
            self._begin, self._backlogged = (now, load), busy
            return
        self._backlogged = self._backlogged and busy
        began, before = self._begin
        if (seconds := now - began) < WINDOW_SECONDS:
            return
        up, down = (load.delivered - before.delivered) / seconds, (load.received - before.received) / seconds
        if self._backlogged:
            self._ups.append(up)
            if len(self._ups) == WINDOWS:
                self.rates = self.rates._replace(up=max(self._ups))
        self.rates = self.rates._replace(up=max(self.rates.up, up))
        self._fastest = max(self._fastest, down)
        self._begin, self._backlogged = (now, load), busy

    def pause(self) -> None:
        """The reduce has ended; may be called again and again."""
        self._begin = None
        if self._fastest:
            down = self.rates.down or self._fastest
            self.rates = self.rates._replace(down=down + NEWEST_REDUCE * (self._fastest - down))
            self._fastest = 0.0
