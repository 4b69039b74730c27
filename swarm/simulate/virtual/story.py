"""The story of a round, told from what the virtual nodes reported, in the words of `swarm why`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from swarm.events import EVENTS, Event, Started
from swarm.simulate.virtual.chronicle import Chronicle, Entry
from swarm.simulate.virtual.names import peer_id
from swarm.why.chapter import Log
from swarm.why.tell import tell

FAULTS_TOLD = 30


def story(chronicle: Chronicle, round: int) -> list[str]:
    """Sentences: the last faults, by the simulation's time; then the round, each node by its own begin of it."""
    logs = [Log(f"n{node}", _events(node, entries)) for node, entries in sorted(chronicle.told.items())]
    faults = [f"{seconds:10.3f} s  {what}" for seconds, what in list(chronicle.faults)[-FAULTS_TOLD:]]
    return ["What was done to the swarm, in virtual seconds:", *faults, *tell(logs, round)]


def _events(node: int, entries: Iterable[Entry]) -> Iterator[tuple[float, Event]]:
    """As they would be in the node's log."""
    yield 0.0, Started(peer=peer_id(node), port=0, bootstrap=())
    for seconds, name, fields in entries:
        kind = EVENTS.get(name)
        if kind is not None:
            yield seconds, kind.model_validate(fields)
