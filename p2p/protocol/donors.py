"""What a fetching member knows of its donors: how fast each answers, what it owes and lacks, when it counts as silent.

Nobody is written off for good: with time even a liar is tried again, so that a fetch cannot get stuck.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from p2p.protocol.transfer_messages import GetChunk, GetManifest, GetMean

MOST_REQUESTS = 64
"""Requests that one donor is given at a time; donors queue twice as many from one peer."""
PATIENCE_SECONDS = 180.0
"""Without an answer for so long a donor counts as silent: it may have many newcomers to serve, or a reduce to do.
Patience costs little: others who have nothing better to do are asked for what a slow one owes, and a donor that is dead
is known to be from its link or its heartbeats."""
WINDOW_SECONDS = 4.0
"""A donor is asked ahead for what it gives in so long: more would only wait at its desk."""
LIAR_SECONDS = 300.0
"""A donor that lied is left alone for so long, then twice, four times ..."""
RETRY_SECONDS = 1.0
"""A donor that refuses or whose link broke is left alone for so long, then twice, four times ..."""
_DECAY = 0.9

Kind = Literal["mean", "manifest"]


@dataclass(frozen=True, slots=True)
class Request:
    """A question under way. `index`: the chunk it is about, -1 for a manifest. `round`: of the manifest or mean; for a
    chunk, which comes at whatever round it is in, the one that the donor had reached when it was asked."""

    id: int
    peer: str
    message: GetManifest | GetChunk | GetMean
    index: int
    round: int
    size: int
    sent_at: float


@dataclass
class Donor:
    """One donor, seen from the member that fetches."""

    peer: str
    height: int = -1
    present: bool = True
    """Whether it is among the sources now."""
    until: float = 0.0
    """It is not asked before this time."""
    outstanding: dict[int, Request] = field(default_factory=dict)
    outstanding_bytes: int = 0
    most: int = MOST_REQUESTS
    """Requests that it takes at a time, as far as we know."""
    strikes: int = 0
    lies: int = 0
    answers: int = 0
    _progress: float = 0.0
    _busy_bytes: float = 0.0
    _busy_seconds: float = 0.0

    def usable(self, now: float) -> bool:
        return self.present and now >= self.until

    @property
    def rate(self) -> float | None:
        """Bytes a second while something was outstanding; None before the first answer."""
        return self._busy_bytes / max(self._busy_seconds, 1e-6) if self.answers else None

    def asked(self, request: Request) -> None:
        if not self.outstanding:
            self._progress = request.sent_at
        self.outstanding[request.id] = request
        self.outstanding_bytes += request.size

    def moved(self, now: float) -> None:
        """Some bytes of an answer came."""
        self._busy_seconds += now - self._progress
        self._progress = now

    def answered(self, request_id: int, now: float) -> Request | None:
        """The whole answer came; None if nobody waits for it."""
        request = self.cancelled(request_id)
        if request is not None:
            self.moved(now)
            self._busy_bytes = (self._busy_bytes + request.size) * _DECAY
            self._busy_seconds *= _DECAY
            self.answers += 1
            self.strikes = 0
            if self.answers % 8 == 0:
                self.most = min(self.most + 1, MOST_REQUESTS)
        return request

    def cancelled(self, request_id: int) -> Request | None:
        request = self.outstanding.pop(request_id, None)
        if request is not None:
            self.outstanding_bytes -= request.size
        return request

    def silent_for(self, now: float) -> float | None:
        """Seconds without a sign of life, if they are too many."""
        silent = now - self._progress
        return silent if self.outstanding and silent > PATIENCE_SECONDS else None

    def window(self, chunk_bytes: int) -> float:
        """Bytes that may be outstanding: one answer until its speed is known, then two at least, lest it idle."""
        return 0.0 if self.rate is None else max(2.0 * chunk_bytes, WINDOW_SECONDS * self.rate)

    def seconds_for(self, size: int, typical: float) -> float:
        """Time until an answer of `size` bytes, asked for now, has come; `typical` stands for an unknown rate."""
        return (self.outstanding_bytes + size) / (self.rate or typical)


class DonorPool:
    """All donors of one fetch. Iterates over them in an order of its own, so that newcomers spread."""

    def __init__(self, order: random.Random) -> None:
        self._order = order
        self._donors: dict[str, Donor] = {}
        self._refusals: dict[tuple[str, Kind, int], float] = {}

    def get(self, peer: str) -> Donor | None:
        return self._donors.get(peer)

    def all(self) -> list[Donor]:
        return list(self._donors.values())

    def see(self, heights: Mapping[str, int], oldest: int) -> None:
        """The donors there are now, with the round each reports; refusals of rounds before `oldest` are forgotten."""
        strangers = sorted(heights.keys() - self._donors.keys())
        for peer in self._order.sample(strangers, len(strangers)):
            self._donors[peer] = Donor(peer)
        for donor in self._donors.values():
            donor.present = donor.peer in heights
            donor.height = heights.get(donor.peer, donor.height)
        self._refusals = {key: since for key, since in self._refusals.items() if key[2] >= oldest}

    def usable(self, now: float, height: int = -1) -> list[Donor]:
        """Donors that may be asked and have reached round `height`."""
        return [donor for donor in self._donors.values() if donor.usable(now) and donor.height >= height]

    def suspend(self, donor: Donor, until: float) -> list[Request]:
        """Leave it alone until then; the requests that are thereby void are returned."""
        donor.until = max(donor.until, until)
        return [request for request_id in list(donor.outstanding) if (request := donor.cancelled(request_id))]

    def slow_down(self, donor: Donor, now: float) -> None:
        """It is too busy for more than it has been asked; or, if that is nothing, for anything."""
        donor.most = max(1, len(donor.outstanding))
        if not donor.outstanding:
            self.strike(donor, now)

    def strike(self, donor: Donor, now: float, seconds: float = RETRY_SECONDS) -> list[Request]:
        """Leave it alone for a while that doubles each time it fails in a row."""
        donor.strikes = min(donor.strikes + 1, 6)
        return self.suspend(donor, now + seconds * 2 ** (donor.strikes - 1))

    def punish(self, peer: str, now: float) -> list[Request] | None:
        """Leave a liar alone for long. None if it is being punished already."""
        donor = self._donors.setdefault(peer, Donor(peer, present=False))
        if donor.lies and donor.until > now:
            return None
        donor.lies = min(donor.lies + 1, 10)
        return self.suspend(donor, now + LIAR_SECONDS * 2 ** (donor.lies - 1))

    def refuse(self, peer: str, kind: Kind, round: int, now: float) -> None:
        self._refusals[peer, kind, round] = now

    def refused(self, peer: str, kind: Kind, round: int, since: float = float("-inf")) -> bool:
        return self._refusals.get((peer, kind, round), float("-inf")) > since

    def all_refused(self, kind: Kind, round: int, now: float) -> bool:
        """Whether there are donors that have reached `round`, and each that answers at all said that it has no such
        thing."""
        peers = [donor.peer for donor in self.usable(now, round)]
        return bool(peers) and all(self.refused(peer, kind, round) for peer in peers)

    def asked_for_manifest(self, round: int) -> list[Request]:
        """Requests under way for that manifest."""
        requests = (request for donor in self._donors.values() for request in donor.outstanding.values())
        return [request for request in requests if (request.index, request.round) == (-1, round)]

    def outstanding_bytes(self) -> int:
        return sum(donor.outstanding_bytes for donor in self._donors.values())

    def quickest(self, donors: Sequence[Donor], size: int) -> Donor:
        """Who would deliver `size` more bytes first."""
        typical = self.typical_rate()
        return min(donors, key=lambda donor: donor.seconds_for(size, typical))

    def typical_rate(self) -> float:
        rates = [donor.rate for donor in self._donors.values() if donor.rate]
        return sum(rates) / len(rates) if rates else 1e6
