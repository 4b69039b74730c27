"""A donor's desk: whose question is answered next, so that the swarm soon has more donors, and training goes on.

Whoever has got most of the state is served first, and as few at a time as fill the link: eight newcomers that are
served together all end at the same late time, or never, if together they cannot follow the rounds that commit
meanwhile; of those served one after the other the first are donors to the rest. So a crowd of any size is served in
about log(crowd / donors) times what one takes. Who takes much more than a state is last, so that no fetch without an
end is served before all others. Records go before state: they are small, and without them chunks cannot be believed.

Bounded in every direction: questions that wait, answers under way for one peer and in all, bytes a second.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from p2p.protocol.messages import GetRecords
from p2p.protocol.transfer_messages import GetChunk, GetManifest, GetMean
from p2p.protocol.width import Width

StateQuestion = GetManifest | GetChunk | GetMean
Question = StateQuestion | GetRecords
"""All that a donor is asked; of records, nothing is refused."""


class TokenBucket:
    """Bytes a second on average. An answer may start while there is credit, and may leave a debt."""

    def __init__(self, rate: float | None, burst: float) -> None:
        """`rate` None: no limit. `burst`: most bytes of credit that build up while nothing is sent."""
        assert rate is None or rate > 0
        self.rate = rate
        self.burst = burst
        self._credit = burst
        self._at = 0.0

    def delay(self, now: float) -> float:
        """Seconds until an answer may start; 0 if it may now."""
        if self.rate is None:
            return 0.0
        self._credit = min(self.burst, self._credit + max(0.0, now - self._at) * self.rate)
        self._at = max(self._at, now)
        return 0.0 if self._credit > 0 else -self._credit / self.rate + 1e-6

    def spend(self, size: float) -> None:
        if self.rate is not None:
            self._credit -= size


@dataclass(frozen=True)
class DeskLimits:
    queued_per_peer: int = 128
    answers_per_peer: int = 2
    answers: int = 8
    """Of state, in all, at most; see Width."""
    bytes_per_second: float | None = None
    burst_bytes: float = 16 << 20
    wait_seconds: float = 60.0
    """Who waits longer is told to come back later: less than the patience of those who ask."""


ENOUGH = 2
"""States that a newcomer may take before others come first: one, and as much again to follow what commits meanwhile."""


@dataclass
class _Customer:
    waiting: deque[tuple[StateQuestion, int, float]] = field(default_factory=deque)
    """Question, weight of its answer, and since when it waits; oldest first."""
    records: deque[tuple[GetRecords, int]] = field(default_factory=deque)
    under_way: int = 0
    """Answers of state."""
    records_under_way: bool = False

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.records or self.under_way or self.records_under_way)


class Desk:
    """Questions in, questions out: records at once, state first to those who have got most of it, else in turn."""

    def __init__(self, limits: DeskLimits, state_bytes: int) -> None:
        """`state_bytes`: what all chunks weigh together."""
        self.limits = limits
        self._state_bytes = state_bytes
        self._given: dict[str, int] = {}
        """Bytes that each peer was given since somebody has been waiting."""
        self._bucket = TokenBucket(limits.bytes_per_second, limits.burst_bytes)
        self._width = Width(-(-limits.answers // limits.answers_per_peer))
        self._customers: dict[str, _Customer] = {}
        self._under_way = 0

    def offer(self, peer: str, message: Question, size: int, now: float) -> bool:
        """Queue a question whose answer weighs `size` bytes. False if this peer has too many waiting."""
        customer = self._customers.setdefault(peer, _Customer())
        if len(customer.waiting) + len(customer.records) >= self.limits.queued_per_peer:
            return False
        if isinstance(message, GetRecords):
            customer.records.append((message, size))
        else:
            customer.waiting.append((message, size, now))
        return True

    def crowded(self, peer: str, size: int) -> bool:
        """Whether a peer that is not being served yet would have to wait too long for an answer of `size` bytes."""
        if self._bucket.rate is None or peer in self._customers:
            return False
        return len(self._customers) * size / self._bucket.rate > self.limits.wait_seconds

    def take(self, now: float, most_bytes: float = math.inf) -> tuple[str, Question] | None:
        """The next question to answer, of those whose answers weigh no more than that; `finished` must follow when that
        is done."""
        if self._bucket.delay(now) > 0:
            return None
        return self._take_records() or self._take_state(now, most_bytes)

    def _take_records(self) -> tuple[str, Question] | None:
        for peer, customer in self._customers.items():
            if customer.records and not customer.records_under_way:
                message, size = customer.records.popleft()
                self._bucket.spend(size)
                customer.records_under_way = True
                self._last_in_turn(peer)
                return peer, message
        return None

    def _take_state(self, now: float, most_bytes: float) -> tuple[str, Question] | None:
        if self._under_way >= self._slots:
            return None
        for peer in sorted(self._customers, key=self._claim, reverse=True):
            customer = self._customers[peer]
            first = next((entry for entry in customer.waiting if entry[1] <= most_bytes), None)
            if first is not None and customer.under_way < self.limits.answers_per_peer:
                customer.waiting.remove(first)
                message, size, _since = first
                self._bucket.spend(size)
                customer.under_way += 1
                self._under_way += 1
                self._given[peer] = self._given.get(peer, 0) + size
                self._last_in_turn(peer)
                if self._under_way == self._slots:
                    self._width.full(now)
                return peer, message
        return None

    @property
    def _slots(self) -> int:
        """Answers of state under way at most, now."""
        return min(self.limits.answers, self._width.served * self.limits.answers_per_peer)

    def _claim(self, peer: str) -> int:
        """How far the peer is with a state, in bytes; one that takes much more than a whole one has none."""
        given = self._given.get(peer, 0)
        return given if given < ENOUGH * self._state_bytes else -1

    def _last_in_turn(self, peer: str) -> None:
        self._customers[peer] = self._customers.pop(peer)

    def withdraw(self, peer: str, request: int) -> None:
        """The peer needs no answer to this any more."""
        if customer := self._customers.get(peer):
            for entry in customer.waiting:
                if entry[0].request == request:
                    customer.waiting.remove(entry)
                    break
            self._tidy(peer, customer)

    def overdue(self, now: float) -> list[tuple[str, StateQuestion]]:
        """Questions that have waited too long; they will not be answered."""
        late: list[tuple[str, StateQuestion]] = []
        for peer, customer in list(self._customers.items()):
            while customer.waiting and now - customer.waiting[0][2] > self.limits.wait_seconds:
                late.append((peer, customer.waiting.popleft()[0]))
            self._tidy(peer, customer)
        return late

    def delay(self, now: float) -> float | None:
        """Seconds after which `take` may give something; None if that hangs on `offer` or `finished`, not on time."""
        free = self._under_way < self._slots
        for customer in self._customers.values():
            if customer.records and not customer.records_under_way:
                return self._bucket.delay(now)
            if free and customer.waiting and customer.under_way < self.limits.answers_per_peer:
                return self._bucket.delay(now)
        return None

    def finished(self, peer: str, message: Question, given: int, now: float) -> None:
        """The answer to this question has left, or was given up; `given` bytes of state were sent."""
        customer = self._customers[peer]
        if isinstance(message, GetRecords):
            customer.records_under_way = False
        else:
            if self._under_way < self._slots:
                self._width.void()
            self._width.gave(given, self._slots, now)
            customer.under_way -= 1
            self._under_way -= 1
        self._tidy(peer, customer)

    def forget(self, peer: str) -> None:
        """The peer is gone: what it waited for is not answered any more."""
        self._given.pop(peer, None)
        if customer := self._customers.get(peer):
            customer.waiting.clear()
            customer.records.clear()
            self._tidy(peer, customer)

    def _tidy(self, peer: str, customer: _Customer) -> None:
        if customer.idle:
            del self._customers[peer]
            if not self._customers:
                self._given.clear()
