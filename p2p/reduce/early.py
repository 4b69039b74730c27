"""What others send for an attempt of which we have no plan yet: it has reached them sooner than us.

A member sends its first parts without waiting for a permission, which would take half a round trip. Whoever has no plan
by then holds them here, in the memory in which the attempt will want them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ops.codec import Codec
from p2p.protocol.ballot import Ballot
from p2p.protocol.messages import Go, Part
from p2p.protocol.model import BadMessage
from p2p.reduce.payload import Incoming
from p2p.reduce.recycler import Recycler

EARLY_BYTES = 16 * 1024 * 1024
"""What one member may send to all others together before they ask for it, so that nobody has to hold more of one: as
much as 1 Gbit/s carries in half of a round trip of 250 ms."""
EARLY_PARTS = 64
"""And so many parts for each."""


def early_pieces(codec: Codec, piece: int, others: int) -> int:
    """How many parts, of `piece` values, go to each of so many others without being asked for."""
    values = int(EARLY_BYTES * 8 / codec.bits_per_value) // max(1, others)
    return min(EARLY_PARTS, max(1, values // piece))


class EarlyPart(NamedTuple):
    """A part that is held, or on its way."""

    message: Part
    incoming: Incoming


@dataclass(slots=True)
class _Held:
    """Of one member, for the newest ballot that it sent something of."""

    ballot: Ballot
    go: Go | None = None
    parts: dict[int, EarlyPart] = field(default_factory=dict)
    """By where they start."""
    held_bytes: int = 0


class Early:
    """Of one reducer, from all others."""

    def __init__(self, codec: Codec, count: int, recycler: Recycler) -> None:
        """`codec`: of parts. `count`: values in the vector."""
        self._codec, self._count, self._recycler = codec, count, recycler
        self._of: dict[str, _Held] = {}

    def on_go(self, peer: str, go: Go) -> None:
        if (held := self._held(peer, go.ballot)) is not None:
            held.go = go

    def open(self, peer: str, message: Part, size: int) -> Sequence[memoryview] | None:
        """Where the `size` payload bytes go; None: nowhere, its sender has given it up. Raises BadMessage."""
        held = self._held(peer, message.ballot)
        if held is None:
            return None
        count = message.stop - message.start
        if not 0 <= message.start < message.stop <= self._count:
            raise BadMessage(f"part [{message.start}, {message.stop}) of a vector of {self._count} values")
        held.held_bytes += int(count * self._codec.bits_per_value / 8)
        if message.start in held.parts or len(held.parts) == EARLY_PARTS or held.held_bytes > EARLY_BYTES:
            raise BadMessage("part: sent without being asked")
        incoming = Incoming(message, self._recycler.allocate(self._codec, count), size, self._recycler)
        held.parts[message.start] = EarlyPart(message, incoming)
        return incoming.buffers()

    def take(self, peer: str, message: Part) -> None:
        """The payload of an opened part is complete. Raises BadMessage."""
        held = self._of.get(peer)
        if held is not None and held.ballot == message.ballot and message.start in held.parts:
            held.parts[message.start].incoming.finish()

    def forget(self, peer: str) -> None:
        """The link to this peer is gone: on the next one it sends all of it again."""
        self._of.pop(peer, None)

    def collect(self, ballot: Ballot) -> Iterator[tuple[str, Go | EarlyPart]]:
        """What came for this ballot, each once. What came for others that it outruns is of no use any more."""
        for peer, held in list(self._of.items()):
            if held.ballot.outruns(ballot):
                continue
            del self._of[peer]
            if held.ballot == ballot:
                yield from ((peer, part) for part in held.parts.values())
                if held.go is not None:
                    yield peer, held.go

    def _held(self, peer: str, ballot: Ballot) -> _Held | None:
        """None: the peer has gone on to a later ballot."""
        held = self._of.get(peer)
        if held is not None and held.ballot.outruns(ballot):
            return None
        if held is None or held.ballot != ballot:
            held = self._of[peer] = _Held(ballot)
        return held
