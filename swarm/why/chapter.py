"""One node's part in one round: its events from the commit before, or from the state it fetched, to the next one.

Every node writes its log by its own clock, and clocks may be wrong by any amount. So seconds count from the node's own
begin of the round, and what orders the events of different nodes are the attempts at the round that they saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from swarm.events import (
    Adopted,
    Attempt,
    Behind,
    Committed,
    Event,
    Excluded,
    Ready,
    Reducing,
    RefusedPlan,
    Repaired,
    Round,
    Started,
    Straggler,
    Superseded,
    Synced,
    Train,
    Voted,
)

T = TypeVar("T", bound=Event)

BEFORE = -1
"""The stretch of a round in which no attempt was under way yet."""
AFTER = 1 << 62
"""... and in which the round was decided, or went on without the node."""


OWN = (
    Train,
    Ready,
    Reducing,
    Attempt,
    Superseded,
    Repaired,
    Adopted,
    Excluded,
    Straggler,
    RefusedPlan,
    Voted,
    Committed,
)
"""Events that a node writes in the midst of the round that they name."""


@dataclass(frozen=True)
class Log:
    """What one node wrote: (seconds by its clock, event), in order."""

    name: str
    entries: Iterable[tuple[float, Event]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One event: seconds since the node began the round, and during which attempt."""

    seconds: float
    attempt: int
    since: float
    """Seconds since the node learned of that attempt: what happened first, where nodes begin a round far apart."""
    event: Event


@dataclass
class Chapter:
    """What one node's log tells of one round."""

    node: str
    round: int
    began: float
    """By the node's clock."""
    begins_with: Event
    peer: str = ""
    entries: list[Entry] = field(default_factory=list)
    closed: bool = False
    """Whether the log goes on beyond the round."""
    _attempt: int = BEFORE
    _learned: float = 0.0

    def add(self, time: float, event: Event) -> None:
        seconds = time - self.began
        if isinstance(event, Reducing | Attempt | Superseded | Repaired | Adopted):
            self._now_in(event.attempt, seconds)
        if isinstance(event, Behind):
            self._now_in(AFTER, seconds)
        self.entries.append(Entry(seconds, self._attempt, seconds - self._learned, event))
        if isinstance(event, Committed):
            self._now_in(AFTER, seconds)

    def _now_in(self, attempt: int, seconds: float) -> None:
        if attempt > self._attempt:
            self._attempt, self._learned = attempt, seconds

    @property
    def last(self) -> float:
        """Seconds until the last word."""
        return self.entries[-1].seconds if self.entries else 0.0

    def of(self, kind: type[T] | tuple[type[T], ...]) -> Iterator[tuple[Entry, T]]:
        """The events of that kind about this round."""
        for entry in self.entries:
            if isinstance(entry.event, kind) and getattr(entry.event, "round", self.round) == self.round:
                yield entry, entry.event

    def last_of(self, kind: type[Event]) -> float | None:
        """Seconds until the last event of that kind."""
        return max((entry.seconds for entry, _ in self.of(kind)), default=None)

    @property
    def eventful(self) -> bool:
        """Whether the node did anything in the round."""
        return any(True for _ in self.of((*OWN, Round)))

    @property
    def committed(self) -> bool:
        """Whether the node knows of the commit of this round, and can apply it."""
        return any(True for _ in self.of(Round)) or any(True for _ in self.of(Committed))

    def commits(self) -> dict[int, float]:
        """When, by the node's clock, it took the outer steps of the round before and of this one."""
        marks = {self.round - 1: self.began} if isinstance(self.begins_with, Round) else {}
        seconds = self.last_of(Round)
        return marks if seconds is None else marks | {self.round: self.began + seconds}


def chapters(log: Log, round: int) -> list[Chapter]:
    """One chapter as a rule; none if the log does not tell of the round, more if the node went through it again."""
    return list(_Scan(log, round).chapters())


class _Scan:
    def __init__(self, log: Log, round: int) -> None:
        self._log, self._round = log, round
        self._open: Chapter | None = None
        self._peer = ""

    def chapters(self) -> Iterator[Chapter]:
        for time, event in self._log.entries:
            if isinstance(event, Started | Round):
                self._peer = event.peer
            if (done := self._take(time, event)) is not None:
                yield done
        if self._open is not None:
            yield self._closed(False)

    def _take(self, time: float, event: Event) -> Chapter | None:
        """The chapter that ends with this event."""
        about = getattr(event, "round", None)
        if self._open is None:
            if self._begins(event) or (about == self._round and isinstance(event, OWN)):
                self._begin(time, event)
            return None
        if isinstance(event, Round) and about == self._round - 1 and not self._open.entries:
            self._begin(time, event)  # the outer step, right after the commit that it belongs to
            return None
        if about is not None and about > self._round and not isinstance(event, Synced):
            return self._closed(True)
        self._open.add(time, event)
        over = isinstance(event, Round | Synced) and event.round >= self._round
        return self._closed(True) if over else None

    def _begins(self, event: Event) -> bool:
        return isinstance(event, Round | Committed | Synced) and event.round == self._round - 1

    def _begin(self, time: float, event: Event) -> None:
        self._open = Chapter(self._log.name, self._round, time, event)
        if not self._begins(event):
            self._open.add(time, event)

    def _closed(self, closed: bool) -> Chapter:
        assert self._open is not None
        chapter, self._open = self._open, None
        chapter.peer, chapter.closed = self._peer, closed
        return chapter
