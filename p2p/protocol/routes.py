"""A plan, laid out piece by piece: who owns which piece, and whose codes go into it. Pure functions of the plan."""

from __future__ import annotations

from dataclasses import dataclass

from p2p.protocol import bitmap
from p2p.protocol.messages import Plan
from p2p.protocol.pieces import Grid

LIGHT = 0.8
"""Less than so much of an equal share is not the rounding to whole pieces."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """One segment as an attempt sees it: pieces [first, stop)."""

    first: int
    stop: int
    owner: int
    """Rank of the seat that reduces it, or has it."""
    contributors: tuple[int, ...]
    """Ranks, ascending."""
    weights: tuple[float, ...]
    """Of the contributors."""
    takes: int
    """The contributors again, as a set of bits."""
    done: bool
    """The owner has the mean already."""

    def __len__(self) -> int:
        return self.stop - self.first


class Routes:
    """Lookup tables over the pieces of a plan with weight."""

    def __init__(self, plan: Plan, count: int) -> None:
        """`count`: values in the vector, which the plan's segments tile."""
        draft = plan.draft
        assert draft.steps
        assert draft.segments[-1].stop == count
        self.grid = Grid(count, draft.piece)
        self.members = draft.members
        self.stretches: list[Stretch] = []
        self.stretch_of: list[int] = []
        """Piece -> index of its segment."""
        self.place_of: list[int] = []
        """Piece -> its place among the pieces of its owner."""
        self.owned: dict[int, list[int]] = {}
        """Rank -> the pieces it owns, in the order of the vector."""
        first, weights = 0, dict[bytes, tuple[float, ...]]()
        for segment, route in zip(draft.segments, plan.routes, strict=True):
            stop = -(-segment.stop // draft.piece)
            ranks = bitmap.unpack(segment.contributors)
            if segment.contributors not in weights:
                weights[segment.contributors] = tuple(float(draft.seats[rank].weight) for rank in ranks)
            takes = int.from_bytes(segment.contributors, "little")
            self._append(Stretch(first, stop, route.owner, ranks, weights[segment.contributors], takes, route.done))
            first = stop

    def _append(self, stretch: Stretch) -> None:
        owned = self.owned.setdefault(stretch.owner, [])
        self.stretch_of += [len(self.stretches)] * len(stretch)
        self.place_of += range(len(owned), len(owned) + len(stretch))
        owned += range(stretch.first, stretch.stop)
        self.stretches.append(stretch)

    def of(self, piece: int) -> Stretch:
        """The segment that a piece lies in."""
        return self.stretches[self.stretch_of[piece]]

    def names(self, piece: int) -> tuple[str, ...]:
        """Peer ids of a piece's contributors: what its mean depends on."""
        return tuple(self.members[rank] for rank in self.of(piece).contributors)

    def pieces(self, rank: int) -> list[int]:
        """What a member owns, in the order of the vector."""
        return self.owned.get(rank, [])

    def is_light(self, rank: int) -> bool:
        """Whether a member owns clearly less than its equal share, or nothing."""
        return len(self.pieces(rank)) < LIGHT * len(self.grid) / len(self.owned)

    def to_contribute(self, rank: int) -> list[int]:
        """Pieces that want this member's codes: one of each owner in turn, from behind its own rank on, so that
        members do not all hit the same owner."""
        turn = [*range(rank + 1, len(self.members)), *range(rank + 1)]
        queues = [
            [piece for piece in self.pieces(owner) if (found := self.of(piece)).takes >> rank & 1 and not found.done]
            for owner in turn
        ]
        longest = max(map(len, queues))
        return [queue[index] for index in range(longest) for queue in queues if index < len(queue)]
