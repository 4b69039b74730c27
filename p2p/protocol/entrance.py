"""Waiting a little for newcomers that are a round behind again and again. Pure.

A newcomer that holds the state of a round may find that the next one was planned meanwhile. Where rounds are shorter
than bringing the state up by a round takes, that would go on for ever. So a coordinator that could plan waits for those
who are almost there, but for no more than a small share of all time, whatever they do.
"""

from __future__ import annotations

from collections.abc import Collection

from p2p.protocol.board import Board
from p2p.protocol.patience import Patience

SHARE = 0.05
"""Of all time, at most, is spent on waiting."""
MOST_SECONDS = 5.0
"""At a time."""
NEAR = 4
"""Rounds that a newcomer may be behind: with the means that members keep it is here soon."""


class Entrance:
    """What one node has waited as a coordinator, over all its rounds."""

    def __init__(self, share: float = SHARE, most_seconds: float = MOST_SECONDS) -> None:
        self._patience = Patience(share, most_seconds)

    def held_open(self, board: Board, excluded: Collection[str], now: float) -> bool:
        """Whether to wait on. To be asked, a few times a second, while the round could be planned but for this."""
        return self._patience.waits(any(peer not in excluded for peer in almost_here(board, now)), now)


def almost_here(board: Board, now: float) -> list[str]:
    """Live nodes that are not ready, not waited for anyway, and hold or held our head's state or one shortly before."""
    height = board.head.height
    near = range(max(0, height - NEAR), height + 1)  # not genesis: that is what everybody begins with
    return [
        peer
        for peer, status in board.statuses.items()
        if status.height in near
        and (status.phase == "syncing" or peer not in board.head.view)
        and (status.ready is None or status.ready.round != board.round)
        and board.alive(peer, now)
    ]
