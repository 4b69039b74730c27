"""What an attempt leaves to the next one of the same round. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from p2p.protocol.messages import Plan
from p2p.protocol.routes import Routes


@dataclass(frozen=True, slots=True)
class Carried:
    """What is held from an earlier attempt, and is of use in this one."""

    means: frozenset[int] = frozenset()
    """Pieces whose mean is held."""
    parts: frozenset[tuple[str, int]] = frozenset()
    """(contributor, piece that we own): codes that came and are not reduced yet."""


NOTHING = Carried()


def carry(before: Routes, held: Sequence[int], parts: Collection[tuple[str, int]], me: str, plan: Plan) -> Carried:
    """What `me` can take over into `plan`.

    `held`: for each piece, whether its mean is held; `parts`: unreduced codes. A piece with the same contributors has
    the same mean whoever reduces it, and codes are good for whoever owns the piece.
    """
    if not plan.draft.steps or plan.draft.piece != before.grid.piece:
        return NOTHING
    after = Routes(plan, before.grid.count)
    means = frozenset(piece for piece, flag in enumerate(held) if flag and after.names(piece) == before.names(piece))
    owned = frozenset(after.pieces(after.members.index(me))) if me in after.members else frozenset()
    wanted = frozenset(piece for piece in owned - means if not after.of(piece).done)
    return Carried(
        means, frozenset((name, piece) for name, piece in parts if piece in wanted and name in after.names(piece))
    )
