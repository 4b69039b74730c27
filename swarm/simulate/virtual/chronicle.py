"""What happened: a running hash of every event, and what nodes report, for the story of a round."""

from __future__ import annotations

from array import array
from collections import deque
from hashlib import blake2b

from p2p.protocol.message import Message
from p2p.protocol.messages import MESSAGES
from swarm.simulate.virtual.host import Wire
from swarm.simulate.virtual.timeline import TICKS

KEPT = 500
"""Entries of each node that are remembered, and as many faults."""
BATCH = 1 << 16

Entry = tuple[float, str, dict[str, object]]
"""(virtual seconds, event, its fields)"""

_CODES = {cls: code for code, cls in enumerate(MESSAGES.values())}


class Chronicle:
    """Takes note of everything. The same seed gives the same hash, whatever the process."""

    def __init__(self) -> None:
        self.told: dict[int, deque[Entry]] = {}
        """What each node reports, by number."""
        self.faults: deque[tuple[float, str]] = deque(maxlen=KEPT)
        self.messages = 0
        self._hash = blake2b(digest_size=16)
        self._batch: list[int] = []

    def message(self, tick: int, wire: Wire, message: Message) -> None:
        """A message was delivered."""
        batch = self._batch
        batch.append(tick << 32 | wire.name | _CODES[type(message)])
        if len(batch) >= BATCH:
            self._flush()

    def note(self, tick: int, node: int, event: str, fields: dict[str, object]) -> None:
        """A node reports something."""
        self.told.setdefault(node, deque(maxlen=KEPT)).append((tick / TICKS, event, fields))
        self._add((tick, node, event, [value for value in fields.values() if isinstance(value, int | str)]))

    def fault(self, tick: int, what: str) -> None:
        """Something was done to the swarm."""
        self.faults.append((tick / TICKS, what))
        self._add((tick, what))

    def digest(self) -> str:
        """Hex of the hash of all that happened so far."""
        self._flush()
        return self._hash.hexdigest()

    def _add(self, entry: object) -> None:
        self._flush()
        self._hash.update(repr(entry).encode())

    def _flush(self) -> None:
        self.messages += len(self._batch)
        self._hash.update(array("Q", self._batch).tobytes())
        self._batch.clear()
