"""Tells when a peer is doubted, dead or back, and why: for people, and for the story of a round. Pure."""

from __future__ import annotations

from p2p.protocol.effects import Note
from p2p.protocol.liveness import Liveness

ALIVE, DOUBTED, DEAD = "alive", "doubted", "dead"


class Watch:
    """What was told of every peer. Decides nothing: the rounds go by `Liveness` itself."""

    def __init__(self, liveness: Liveness) -> None:
        self._liveness = liveness
        self._told: dict[str, tuple[str, float]] = {}
        """Peer -> what it counts as, and since when; of those that are simply alive nothing."""

    def look(self, round: int, now: float) -> list[Note]:
        """What has changed since the last look; `round` is the one in progress."""
        doubtful, living = self._liveness.doubtful(now), self._liveness.living(now)
        if not doubtful and not self._told:
            return []
        still_dead = {peer for peer, (state, _) in self._told.items() if state == DEAD and peer not in living}
        peers = dict.fromkeys(peer for peer in (*self._told, *doubtful) if peer not in still_dead)
        found = [note for peer in peers if (note := self._look_at(peer, round, now)) is not None]
        known = set(self._liveness.peers())
        self._told = {peer: told for peer, told in self._told.items() if told[0] != ALIVE and peer in known}
        return found

    def _look_at(self, peer: str, round: int, now: float) -> Note | None:
        standing = self._liveness.standing(peer, now)
        state = DEAD if not standing.alive else DOUBTED if standing.heard_by else ALIVE
        before, since = self._told.setdefault(peer, (ALIVE, now))
        if state == before:
            return None
        self._told[peer] = (state, now)
        about: dict[str, object] = {"round": round, "peer": peer}
        if state == ALIVE:
            return Note("returned", about | {"was": before, "seconds": now - since})
        if state == DOUBTED:
            return Note("doubted", about | {"reason": standing.reason, "heard_by": standing.heard_by})
        return Note("dead", about | {"reason": standing.reason})
