"""From the events of a round to sentences, in order. Pure: a simulator can tell its own rounds with it, too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import TypeVar

from swarm.events import Attempt, Committed, Event, Left, Ready, Reducing, Round, Synced, Train, Voted
from swarm.why.chapter import AFTER, BEFORE, Chapter, Entry, Log, chapters
from swarm.why.facts import facts
from swarm.why.words import MANY, Names, each, some, span

CLOCK_SECONDS = 2.0
"""A commit reaches all who live within this: where two logs say otherwise, their clocks differ."""

T = TypeVar("T", bound=Event)
Timed = tuple[float, str]
"""A sentence, and how far into an attempt somebody first told it, in seconds."""


def tell(logs: Iterable[Log], round: int) -> list[str]:
    """The story of `round`; empty if no log tells of it."""
    told = [chapter for log in logs for chapter in chapters(log, round)[-1:]]
    return _Story(told, round).sentences() if any(chapter.eventful for chapter in told) else []


class _Story:
    def __init__(self, told: Sequence[Chapter], round: int) -> None:
        self.told, self.round = told, round
        self.names = Names({chapter.peer: chapter.node for chapter in told if chapter.peer})
        self.facts = facts(told, round, self.names)

    def sentences(self) -> list[str]:
        lines = [*self._opening(), *self._clocks(), *_ordered([*self._readiness(), *self._happened(BEFORE)])]
        for attempt in self._attempts():
            told = [*self._begin(attempt), *self._happened(attempt), *self._plan(attempt), *self._votes(attempt)]
            lines += _ordered(told)
        lines += [*self._commit(), *self._applied(), *self._phases()]
        return [*lines, *_ordered(self._happened(AFTER)), *self._ends()]

    def _all(self, kind: type[T]) -> Iterator[tuple[str, Entry, T]]:
        """(who, when, what) of all events of that kind about this round."""
        for chapter in self.told:
            for entry, event in chapter.of(kind):
                yield chapter.node, entry, event

    def _attempts(self) -> list[int]:
        seen = {entry.attempt for chapter in self.told for entry in chapter.entries}
        return sorted(seen - {BEFORE, AFTER})

    def _happened(self, attempt: int) -> list[Timed]:
        return [(fact.since, fact.sentence()) for fact in self.facts if fact.attempt == attempt]

    # --- who tells, and by which clocks ---

    def _opening(self) -> list[str]:
        who = some([chapter.node for chapter in self.told])
        logs = "log" if len(self.told) == 1 else "logs"
        return [f"Round {self.round}, by the {logs} of {who}. Seconds count from each node's own begin of the round."]

    def _clocks(self) -> list[str]:
        """The two nodes whose clocks differ most: every commit that both saw is far apart."""
        most, ahead, back = CLOCK_SECONDS, "", ""
        for one, other in combinations(self.told, 2):
            mine, theirs = one.commits(), other.commits()
            apart = [theirs[round] - mine[round] for round in mine.keys() & theirs.keys()]
            least = min(apart, key=abs, default=0.0)
            if abs(least) > most:
                most = abs(least)
                ahead, back = (other.node, one.node) if least > 0 else (one.node, other.node)
        if not ahead:
            return []
        return [f"Clocks differ: {ahead}'s is {most:.0f} s ahead of {back}'s. No time here is taken from two of them."]

    # --- before the plan ---

    def _readiness(self) -> list[Timed]:
        trained = {node: entry.seconds for node, entry, event in self._all(Ready) if event.tokens}
        idle = {node: entry.seconds for node, entry, event in self._all(Ready) if not event.tokens}
        lines = [(min(trained.values()), f"Trained and ready: {each(trained)}.")] if trained else []
        if idle:
            lines.append((min(idle.values()), f"Ready to receive, with no part in the mean: {each(idle)}."))
        for chapter in self.told:
            steps = [(entry.seconds, event.inner_step) for entry, event in chapter.of(Train)]
            if steps and not any(True for _ in chapter.of((Ready, Reducing, Round))):
                seconds, step = steps[-1]
                lines.append((seconds, f"{chapter.node} was never ready: inner step {step} after {seconds:.1f} s."))
        return lines

    # --- an attempt ---

    def _begin(self, attempt: int) -> list[Timed]:
        for node, entry, event in self._all(Attempt):
            if event.attempt == attempt:
                reason = self.names.within(event.reason)
                return [(-1.0, f"Attempt {attempt}: {node} opened it after {entry.seconds:.1f} s: {reason}.")]
        return []

    def _plan(self, attempt: int) -> list[Timed]:
        """Who was to reduce what, told by those who began to."""
        plans = [plan for plan in self._all(Reducing) if plan[2].attempt == attempt]
        if not plans:
            return []
        event = plans[0][2]
        whom = self.names.all(event.seats, "members") if event.seats else f"{event.members} members"
        mean = ""
        if event.contributors and set(event.contributors) != set(event.seats):
            mean = f", the mean of {self.names.all(event.contributors, 'members')}"
        kept = f"; {100 * event.kept / event.values:.0f} % of the mean was there already" if event.kept else ""
        planner = self.names.of(event.coordinator) if event.coordinator else "somebody"
        began = each({node: entry.seconds for node, entry, _ in plans})
        text = f"Attempt {attempt}: {planner} planned for {whom}{mean}{kept}. They began to reduce: {began}."
        return [(min(entry.since for _, entry, _ in plans), text)]

    def _votes(self, attempt: int) -> list[Timed]:
        votes = [(event.record, node, entry) for node, entry, event in self._all(Voted) if event.attempt == attempt]
        lines = []
        for record in dict.fromkeys(record for record, _, _ in votes):
            who = {node: entry for voted, node, entry in votes if voted == record}
            text = f"Voted for record {record[:12]}: {each({node: entry.seconds for node, entry in who.items()})}."
            lines.append((min(entry.since for entry in who.values()), text))
        return [*lines, (lines[-1][0], f"The results of attempt {attempt} differ.")] if len(lines) > 1 else lines

    # --- the commit ---

    def _commit(self) -> list[str]:
        records = {event.record: event for _, _, event in self._all(Committed)}
        if not records:
            known = any(chapter.committed for chapter in self.told)
            return [] if known else ["No log here knows of its commit."]
        lines = [self._record(event) for event in records.values()]
        return [*lines, "These are different histories."] if len(lines) > 1 else lines

    def _record(self, event: Committed) -> str:
        weights = {peer: tokens for peer, tokens in zip(event.members, event.weights, strict=True) if tokens}
        if not weights:
            what = f"nobody trained, {self.names.all(event.members, 'members')} form the next view"
        elif len(weights) <= MANY:
            parts = ", ".join(f"{self.names.of(peer)} {tokens:,}" for peer, tokens in weights.items())
            what = f"the mean of {sum(weights.values()):,} tokens: {parts}"
        else:
            low, high = min(weights.values()), max(weights.values())
            what = f"the mean of {sum(weights.values()):,} tokens by {len(weights)} members, {low:,} to {high:,} each"
        if event.fragments > 1:
            what = f"fragment {event.fragment + 1} of {event.fragments}, {what}"
        lost = f"; {self.names.all(event.lost)} did not live to see it" if event.lost else ""
        signed = "1 signature" if event.signatures == 1 else f"{event.signatures} signatures"
        return f"Committed in attempt {event.attempt}: record {event.record[:12]}, {signed}, {what}{lost}."

    def _applied(self) -> list[str]:
        states: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
        for node, entry, event in self._all(Round):
            states[event.record, event.theta_digest, event.momentum_digest][node] = entry.seconds
        lines = [f"Outer step done, theta {state[1][:12]}: {each(who)}." for state, who in states.items()]
        return [*lines, "THEIR PARAMETERS DIFFER."] if len(lines) > 1 else lines

    def _phases(self) -> list[str]:
        """How long each phase took those who went through it."""
        spent: dict[str, dict[str, float]] = defaultdict(dict)
        for chapter in self.told:
            before: float | None = 0.0
            for phase, mark in _marks(chapter):
                if mark is not None and before is not None:
                    spent[phase][chapter.node] = mark - before
                before = mark
        parts = [_phase(phase, nodes) for phase, nodes in spent.items()]
        return [f"It took: {', '.join(parts)}."] if any(chapter.committed for chapter in self.told) else []

    # --- who did not get there ---

    def _ends(self) -> list[str]:
        lines = []
        for chapter in self.told:
            over = any(isinstance(entry.event, Round | Committed | Synced | Left) for entry in chapter.entries)
            if not over and not chapter.closed:
                lines.append(f"The log of {chapter.node} ends after {chapter.last:.1f} s: killed, or still at it.")
        return lines


def _ordered(told: Iterable[Timed]) -> list[str]:
    return [text for _, text in sorted(told, key=lambda one: one[0])]


def _marks(chapter: Chapter) -> list[tuple[str, float | None]]:
    """The phases of a round, and the seconds after which each was over."""
    began = [entry.seconds for entry, _ in chapter.of(Reducing)]
    return [
        ("training", chapter.last_of(Ready)),
        ("waiting for the plan", min(began, default=None)),
        *([("earlier attempts", max(began))] if len(began) > 1 else []),
        ("reducing", chapter.last_of(Voted)),
        ("agreeing", chapter.last_of(Committed)),
        ("the outer step", chapter.last_of(Round)),
    ]


def _phase(name: str, spent: dict[str, float]) -> str:
    """Where one node took much longer than the others, it is named."""
    longest = max(spent, key=lambda node: spent[node])
    rest = [seconds for node, seconds in spent.items() if node != longest]
    text = f"{name} {span(list(spent.values()), 2)}"
    return f"{text} ({longest})" if rest and spent[longest] > max(rest) + max(0.5, 0.2 * max(rest)) else text
