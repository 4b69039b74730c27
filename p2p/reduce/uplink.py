"""How fast each of the others is sent to, so that all have got everything at about the same time. Pure.

Left to themselves, the connections of one node share its uplink unequally for seconds, and overfill the queues before
it and before their peers: some have done long before others, and then part of the uplink is idle. So each is sent to at
a pace: the part of the uplink's capacity that it has of all that is left to be sent. A peer that takes less, because
its own link is slower or because it waits for others, leaves the rest to the others.

The capacity is the most that was carried. It is known when packets have queued on the way for some time, so that it was
full; or behind the second reduce: young connections may not fill it in their first. The paces come to a little more, so
that more is found if there is more, and to less the longer packets queue: a queue that is full loses packets, and what
waits in it at the end of a reduce is late. Should the uplink really become much slower, paces are too high to matter.

What was carried shows, too, for whom packing pays (p2p/reduce/payload.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from math import inf
from typing import NamedTuple

WINDOW_SECONDS = 0.5
"""The shortest time that says anything: a link's buffers take a tenth of a second and more at once."""
BELIEVED, NEWEST = 4, 8
"""Windows that must say the same; and those by which a way is judged."""
YOUNG = 1
"""Reduces in which connections may not have filled the way."""
FASTEST, FASTEST_NEAR = 2000e6 / 8, 200e6 / 8
"""Bytes a second; the latter where all of the others are near. Connections fill faster uplinks by themselves, and
bursts cost the machine less than an even pace."""
ROOM, RISE = 1.06, 0.11
"""The paces come to so many times the capacity while nothing queues: connections stay some percent below their paces,
more on a busy machine. After each window in which that was kept (KEPT of it) and nothing queued, to so much more; a
second time on end only if more was carried than ever before (MORE times). But once in any case: who was short when it
was measured, for others filled the ways to the peers, would be so for ever."""
KEPT, MORE = 0.87, 1.02
DRAIN, LEAST_ROOM = 2.0, 0.92
"""For each second that packets queue, to so many times the capacity less: 30 ms stay."""
QUEUE_SECONDS = 0.02
"""Packets that wait so long show that the way is full."""
BACKLOGGED = 0.75
"""Part of the others for whom something must wait all through a window that proves anything."""
SLOW_BELOW, SLOW_AFTER = 0.8, 3
"""A peer that takes less than so much of its pace, in as many windows one after another, is slow by itself; until it
keeps the lower pace that it has got for that: its connection did not know better."""
SPARE = 1.5
"""Times what a slow peer takes: its pace."""
LEAST = 0.25
"""Of an equal share, for whoever may become faster."""
LAGS_BELOW, PATIENCE_SECONDS = 0.9, 2.0
"""A connection that stays below so much of its pace, though nothing queues on its way, does not know what room it has.
It begins anew, but not again so soon."""
RENEW_SECONDS = 8.0
"""After so long a connection begins anew in any case. Once in ten seconds BBR looks how short the way is: for that it
sends next to nothing for a fifth of a second and a round trip, all connections of a reduce at once. One that begins
anew goes by the shortest round trip it has ever seen."""


class Stream(NamedTuple):
    """What goes to one of the others."""

    delivered: int
    """Bytes, so far."""
    left: int
    """Bytes that it has yet to get; 0: it has everything."""
    waiting: bool
    """Whether there is more at present than is on its way."""
    queued: float
    """Seconds that packets wait on the way."""
    near: bool = False
    """Whether the way is too short for connections to have trouble with it."""


class Uplink:
    """Of one node: `read` it several times a second while there is something to be sent, and `pause` it otherwise."""

    def __init__(self) -> None:
        self.capacity = 0.0
        """Bytes a second; 0: not known."""
        self.ways: dict[str, float] = {}
        """Bytes a second that the way to a peer carries, be it our link or its own that is the limit: the most in the
        newest windows in which there was enough to send to it, if there were enough of them."""
        self._newest: dict[str, deque[float]] = {}
        """Of each way, in those windows."""
        self._most = self._last = self._peak = 0.0
        """Bytes a second that were carried: the most in two windows on end, in the last window, the most in one."""
        self._windows = self._reduces = 0
        """So far."""
        self._full = 0
        """Windows in which the way was full, since the capacity was last set."""
        self._kept = 0
        """Windows, one after another, in which all paces were kept."""
        self._begin: tuple[float, Mapping[str, Stream]] | None = None
        """Of the window."""
        self._arriving = False
        """Something that was sent since the last pause has arrived."""
        self._waiting: set[str] = set()
        """Those for whom something waited at every reading of the window so far."""
        self._paces: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        """Bytes a second in the last window."""
        self._slow: dict[str, int] = {}
        """Windows, one after another, in which a peer took less than its pace."""
        self._lagging: set[str] = set()
        self._anew: dict[str, float] = {}
        """When a connection last began anew."""

    def read(self, now: float, streams: Mapping[str, Stream]) -> Mapping[str, float]:
        """The paces, bytes a second; whoever has none needs none. `streams`: to each of the others."""
        # a frame that waits for a link's first lane counts as nothing left, and says nothing of the uplink
        waiting = {name for name, stream in streams.items() if stream.waiting and stream.left}
        if self._begin is None or self._begin[1].keys() != streams.keys():
            self._anew, self._waiting = dict.fromkeys(streams, now), set()
        # no window is wasted on a time without anything to send, or on the half of a round trip until the first arrives
        first = not self._arriving and self._begin is not None and _delivered(streams) > _delivered(self._begin[1])
        if self._begin is None or not self._waiting or first:
            self._begin, self._waiting, self._arriving = (now, streams), waiting, self._arriving or first
        else:
            self._waiting &= waiting
            if now - self._begin[0] >= WINDOW_SECONDS:
                self._look_back(now, streams)
                self._begin, self._waiting = (now, streams), waiting
                self._renew(now)
        # until something has arrived the kernel speaks of the reduce before
        queued = min((streams[name].queued for name in waiting), default=0.0) if self._arriving else 0.0
        whole = max(LEAST_ROOM, ROOM + RISE * self._kept - DRAIN * queued) * self.capacity
        before, self._paces = self._paces, self._share(whole, streams) if 0 < self.capacity <= _fastest(streams) else {}
        if self._paces and not before:
            self._let_begin_anew(self._paces, now)
        return self._paces

    def lagging(self) -> set[str]:
        """Those, each named once, whose connections should look for room anew."""
        lagging, self._lagging = self._lagging, set()
        return lagging

    def pause(self) -> None:
        """Everything has been sent, or will not be; may be called again and again."""
        if self._begin is None:
            return
        self._begin, self._arriving, self._reduces = None, False, self._reduces + 1
        if not self.capacity and self._windows >= BELIEVED and self._reduces > YOUNG:
            self.capacity = self._peak  # rather too much than too little
        self._paces, self._rates, self._slow = {}, {}, {}

    def _let_begin_anew(self, names: Mapping[str, float] | set[str], now: float) -> None:
        self._lagging.update(names)
        self._anew.update(dict.fromkeys(names, now))

    def _renew(self, now: float) -> None:
        """One of them in a window, so that the others can fill the way meanwhile."""
        due = [name for name in self._paces if now - self._anew[name] >= RENEW_SECONDS]
        if due:
            self._let_begin_anew({min(due, key=lambda name: self._anew[name])}, now)

    def _look_back(self, now: float, streams: Mapping[str, Stream]) -> None:
        """The window is over."""
        assert self._begin is not None
        began, before = self._begin
        self._rates = {
            name: max(0, stream.delivered - before[name].delivered) / (now - began) for name, stream in streams.items()
        }
        total = sum(self._rates.values())
        carried, self._last = min(total, self._last), total  # an emptying queue shows as too much in one window
        self._windows, self._most, self._peak = self._windows + 1, max(self._most, carried), max(self._peak, total)
        if self.capacity:
            self.capacity = max(self.capacity, carried)
        if len(self._waiting) >= BACKLOGGED * len(streams):
            self._weigh(min(streams[name].queued for name in self._waiting) >= QUEUE_SECONDS)
        self._note_ways()
        self._note_slow(now)
        if total <= _fastest(streams):
            self._let_begin_anew({name for name in self._waiting if self._lags(name, streams[name].queued, now)}, now)

    def _weigh(self, queued: bool) -> None:
        """A window in which there was something to send to nearly everybody: was the way full?"""
        if self._paces and not queued and self._keep_paces():
            rises = not self._kept or self._last >= MORE * self.capacity
            self._full, self._kept = 0, self._kept + 1 if rises else 0
            return
        self._kept = 0
        self._full += queued
        if self._full == BELIEVED:
            # the first time rather too much than too little
            self.capacity, self._full = self._most if self.capacity else self._peak, 0

    def _keep_paces(self) -> bool:
        """Whether connections carry what they may, but for those of slow peers."""
        free = self._paces.keys() - self._slow_ones(self._paces.keys())
        return sum(self._rates[name] for name in free) >= KEPT * sum(self._paces[name] for name in free)

    def _note_ways(self) -> None:
        self._newest = {name: self._newest.get(name) or deque(maxlen=NEWEST) for name in self._rates}
        for name in self._waiting:
            self._newest[name].append(self._rates[name])
        self.ways = {name: max(rates) for name, rates in self._newest.items() if len(rates) >= BELIEVED}

    def _note_slow(self, now: float) -> None:
        for name, pace in self._paces.items():
            if self._rates[name] < SLOW_BELOW * pace:
                self._slow[name] = self._slow.get(name, 0) + 1
            elif self._slow.pop(name, 0) >= SLOW_AFTER:
                self._let_begin_anew({name}, now)

    def _lags(self, name: str, queued: float, now: float) -> bool:
        """Without a pace, too, it should fill its way."""
        low = self._rates[name] < LAGS_BELOW * self._paces.get(name, inf) and queued < QUEUE_SECONDS
        return low and now - self._anew[name] >= PATIENCE_SECONDS

    def _slow_ones(self, names: Collection[str]) -> set[str]:
        """Of those to whom something is left to be sent. When nearly all of the others are slow, the uplink is."""
        slow = {name for name in names if self._slow.get(name, 0) >= SLOW_AFTER}
        return slow if len(slow) < len(names) or len(slow) < BACKLOGGED * len(self._rates) else set()

    def _share(self, whole: float, streams: Mapping[str, Stream]) -> dict[str, float]:
        left = {name: stream.left for name, stream in streams.items() if stream.left}
        least = LEAST * whole / max(1, len(left))
        taken = {name: SPARE * self._rates[name] for name in self._slow_ones(left)}
        rest = whole - sum(taken.values())
        divided = sum(size for name, size in left.items() if name not in taken)
        return {
            name: max(least, taken[name] if name in taken else rest * size / divided) for name, size in left.items()
        }


def _delivered(streams: Mapping[str, Stream]) -> int:
    return sum(stream.delivered for stream in streams.values())


def _fastest(streams: Mapping[str, Stream]) -> float:
    return FASTEST_NEAR if all(stream.near for stream in streams.values()) else FASTEST
