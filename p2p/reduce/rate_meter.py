"""How fast this node's link is, each way, as its reduces show. Pure.

The beginning of a reduce is left out: connections that were idle take a while to come up to the speed of their link.
Sending is measured only while most connections have something to send: who sends to one slow member does not take
itself for slow. What others could send cannot be seen from here, so of a reduce's receiving the fastest window counts.
What is measured decides how much of the vector a member reduces (p2p/protocol/shares.py).
"""

from __future__ import annotations

from p2p.channel.meter import Load
from p2p.protocol.shares import UNKNOWN

WINDOW_SECONDS = 0.5
"""The shortest time that says anything: a link's buffers take a tenth of a second and more at once."""
BUSY = 0.6
"""Share of the connections that have something to send: more than one of two."""
NEWEST_WINDOW = 0.25
"""Weight of the newest window in sending: a link that becomes slow in the middle of a reduce is known as slow at its
end, and yet a reduce's last moments, when less and less is left to send, do not count for much."""
NEWEST_REDUCE = 0.5
"""Weight of the newest reduce in receiving."""


class RateMeter:
    """`read` it several times a second while a reduce goes on, and `pause` it between reduces."""

    def __init__(self) -> None:
        self.rates = UNKNOWN
        self._reduce_began: float | None = None
        self._begin: tuple[float, Load] | None = None
        """Of the window."""
        self._fastest = 0.0
        """Window of the present reduce, receiving."""

    def read(self, now: float, load: Load) -> None:
        """`load`: what the connections have carried by now."""
        if self._reduce_began is None:
            self._reduce_began = now
        if self._begin is None or self._begin[1].connections != load.connections:
            self._begin = now, load
            return
        began, before = self._begin
        seconds = now - began
        if seconds < WINDOW_SECONDS:
            return
        self._begin = now, load
        if began - self._reduce_began < WINDOW_SECONDS:
            return
        if load.busy - before.busy > BUSY * seconds * load.connections:
            up = (load.sent - before.sent) / seconds
            self.rates = self.rates._replace(up=_blend(self.rates.up, up, NEWEST_WINDOW))
        self._fastest = max(self._fastest, (load.received - before.received) / seconds)

    def pause(self) -> None:
        """The reduce has ended; may be called again and again."""
        self._begin = self._reduce_began = None
        if self._fastest:
            self.rates = self.rates._replace(down=_blend(self.rates.down, self._fastest, NEWEST_REDUCE))
            self._fastest = 0.0


def _blend(old: float, new: float, weight: float) -> float:
    return old + weight * (new - old) if old else new
