"""What happened in a round beside its regular course: each thing once, with all who tell of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from swarm.events import Attempt, Checkpoint, Evaluated, PeerDown, PeerUp, Round, Started, Uploaded
from swarm.why.chapter import Chapter, Entry
from swarm.why.words import Names, each

_NUMBERS = re.compile(r"\d+(\.\d+)?")


@dataclass
class Fact:
    """`told`: seconds after which each node says so. `attempt`: the earliest during which one of them does."""

    text: str
    attempt: int
    since: float
    """Seconds into that attempt."""
    told: dict[str, float] = field(default_factory=dict)

    def sentence(self) -> str:
        return f"{each(self.told)}: {self.text}."


def facts(told: Iterable[Chapter], round: int, names: Names) -> list[Fact]:
    """Seconds and sizes in a text make no difference: who says the same but for those says the same."""
    here = re.compile(rf"^round {round}(, attempt \d+)?: ")
    found: dict[str, Fact] = {}
    for chapter in told:
        for entry in _worth_telling(chapter.entries):
            line = "starts again" if isinstance(entry.event, Started) else entry.event.line()
            text = here.sub("", names.within(line))
            fact = found.setdefault(_NUMBERS.sub("#", text), Fact(text, entry.attempt, entry.since))
            fact.attempt, fact.since = min((fact.attempt, fact.since), (entry.attempt, entry.since))
            fact.told.setdefault(chapter.node, entry.seconds)
    return list(found.values())


def _worth_telling(entries: Sequence[Entry]) -> Iterable[Entry]:
    """Without what belongs to the regular course of a node, and links that were not lost before."""
    lost: set[str] = set()
    for entry in entries:
        match entry.event:
            case Attempt() | Round() | Evaluated() | Checkpoint() | Uploaded():
                continue
            case PeerDown(peer=peer):
                lost.add(peer)
            case PeerUp(peer=peer) if peer not in lost:
                continue
        if entry.event.line():
            yield entry
