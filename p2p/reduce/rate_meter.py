"""How fast this node's link is, each way, as its reduces show. Pure.

While there is something to send to nearly everybody, what the connections carry is what the uplink can do. At other
times the node waits for others, and what it carries shows only that the uplink can do at least as much: who sends to
one slow member does not take itself for slow. What others could send cannot be seen from here, so of a reduce's
receiving the fastest window counts. What is measured decides how much of the vector a member reduces
(p2p/protocol/shares.py).

Who was given less than an equal share has less to carry than the others in the same time, whatever its link can do. So
what it sees shows again only the least that its link does; and since nothing would ever show that it can do more, it
takes itself for a little faster after each such reduce, until it is given enough to be measured.
"""

from __future__ import annotations

from collections import deque

from p2p.channel.meter import Load
from p2p.protocol.shares import UNKNOWN, Rates

WINDOW_SECONDS = 0.5
"""The shortest time that says anything: a link's buffers take a tenth of a second and more at once."""
BACKLOGGED = 0.75
"""Share of the others for whom there is something to send: of two or three all, of more all but a few."""
WINDOWS = 3
"""The fastest of so many windows is what the link can do: BBR stops sending for a moment at times, to find out how
short the way is, and a machine is busy with other things. And yet a link that becomes slow in the middle of a reduce is
known as slow at its end. Nothing is said before so many, of short reduces those of several."""
NEWEST_REDUCE = 0.5
"""Weight of the newest reduce in receiving."""
OPTIMISM = 1.1
"""Times what its link does, after a reduce with less than an equal share. A link that is ten times slower is given an
equal share once in two dozen reduces."""
MOST_OPTIMISM = 10.0
"""All in all. Slower links are not tried again."""


class RateMeter:
    """`read` it several times a second while a reduce goes on, and `pause` it between reduces."""

    def __init__(self) -> None:
        self._rates = UNKNOWN
        self._windows = 0
        """Since the start."""
        self._begin: tuple[float, Load] | None = None
        """Of the window."""
        self._backlogged = False
        """At every reading of the window so far."""
        self._light = False
        """Whether the present reduce gives us less than an equal share."""
        self._optimism = 1.0
        """Times what was measured."""
        self._ups: deque[float] = deque(maxlen=WINDOWS)
        """Sending, in the newest windows in which there was enough to send."""
        self._downs: deque[float] = deque(maxlen=WINDOWS)
        """Receiving, in the newest windows."""
        self._fastest = 0.0
        """Window of the present reduce, receiving."""

    @property
    def rates(self) -> Rates:
        return self._rates if self._windows >= WINDOWS else UNKNOWN

    def read(self, now: float, load: Load, backlogged: float, light: bool = False) -> None:
        """`load`: what the connections have carried by now. `backlogged`: share of the others for whom there is
        something to send at present. `light`: the reduce gives us less than an equal share."""
        self._light = light
        busy = backlogged >= BACKLOGGED
        if self._begin is None or self._begin[1].connections != load.connections:
            self._begin, self._backlogged = (now, load), busy
            return
        self._backlogged = self._backlogged and busy
        began, before = self._begin
        if (seconds := now - began) < WINDOW_SECONDS:
            return
        self._windows += 1
        self._take((load.delivered - before.delivered) / seconds, (load.received - before.received) / seconds)
        self._begin, self._backlogged = (now, load), busy

    def _take(self, up: float, down: float) -> None:
        """A window's rates."""
        self._fastest = max(self._fastest, down)
        if self._light:
            self._rates = Rates(max(self._rates.up, up), max(self._rates.down, down))
            return
        self._downs.append(down)
        if self._backlogged:
            self._ups.append(up)
            if len(self._ups) == WINDOWS:
                self._rates = self._rates._replace(up=max(self._ups))
        self._rates = self._rates._replace(up=max(self._rates.up, up))

    def pause(self) -> None:
        """The reduce has ended; may be called again and again."""
        self._begin = None
        if not self._fastest:
            return
        if self._light:
            self._hope()
        else:
            self._optimism = 1.0
            fastest = max(self._fastest, *self._downs)
            down = self._rates.down or fastest
            self._rates = self._rates._replace(down=down + NEWEST_REDUCE * (fastest - down))
        self._fastest = 0.0

    def _hope(self) -> None:
        if self._optimism * OPTIMISM <= MOST_OPTIMISM:
            self._optimism *= OPTIMISM
            self._rates = Rates(OPTIMISM * self._rates.up, OPTIMISM * self._rates.down)
