"""Ballots: the order of the attempts at a round, within one history."""

from __future__ import annotations

from p2p.protocol.model import Count, Model, Round, Tag


class Ballot(Model):
    """Orders the attempts at a round: compared as (round, attempt, rank)."""

    round: Round
    attempt: Count
    rank: Count
    lineage: Tag
    """Of which history: `lineage_of`. What an attempt of another left on the way must match none of ours."""

    def key(self) -> tuple[int, int, int]:
        return (self.round, self.attempt, self.rank)

    def outruns(self, other: Ballot | None) -> bool:
        """Whether this is of a later attempt than `other` in the same history, or `other` is None."""
        return other is None or (self.lineage == other.lineage and other < self)

    def may_follow(self, other: Ballot | None) -> bool:
        """Whether this may be of an attempt to come after `other`: a later one, or of a history that we change to."""
        return self.outruns(other) or (other is not None and self.lineage != other.lineage)

    def __lt__(self, other: Ballot) -> bool:
        return self.key() < other.key()


def lineage_of(head: bytes) -> int:
    """`Ballot.lineage` of the rounds that follow the record with this hash: its first four bytes."""
    return int.from_bytes(head[:4], "big")
