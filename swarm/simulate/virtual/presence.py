"""Who must have signed what is committed: members that nothing was done to.

A coordinator may go on without whoever seems dead to it. Nobody may seem dead who was never frozen, slowed or cut off.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2p.protocol.messages import SignedRecord
from swarm.simulate.virtual.node import VirtualNode
from swarm.simulate.virtual.timeline import Timeline, ticks

RECOVERY = ticks(40.0)
"""How long a fault, once mended, may still be why somebody was taken for dead."""


class Presence:
    """Told of every fault that strikes a live node, and of its end."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._touched: dict[int, int] = {}
        self._committed: dict[bytes, int] = {}

    def touch(self, *indices: int) -> None:
        """Something is done to these nodes, or to a link of theirs."""
        for index in indices:
            self._touched[index] = self._timeline.tick

    def committed(self, name: bytes) -> None:
        """This record, by its hash, is applied for the first time."""
        self._committed.setdefault(name, self._timeline.tick)

    def unheard(self, nodes: Iterable[VirtualNode], signed: SignedRecord) -> list[str]:
        """Names of those with a seat who have been at the record's parent since it was committed, untouched, and have
        not signed."""
        record, now = signed.record, self._timeline.tick
        voters = set(record.voters) - {record.members[rank] for rank, _ in signed.signatures}
        since = self._committed.get(record.previous, now)
        return [
            node.name
            for node in nodes
            if node.peer in voters
            and node.running
            and not (node.frozen or node.leaving)
            and node.core.holds_state
            and node.core.board.head.hash == record.previous
            and node.life_began < since
            and now - self._touched.get(node.index, -RECOVERY - 1) > RECOVERY
        ]
