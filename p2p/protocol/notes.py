"""What a round tells people about itself: each a `Note`, named and filled like the event that a node writes of it."""

from __future__ import annotations

from collections.abc import Sequence

from p2p.protocol import bitmap, ledger
from p2p.protocol.ballot import Ballot
from p2p.protocol.chain import record_hash
from p2p.protocol.effects import Note
from p2p.protocol.messages import Plan, SignedRecord
from p2p.protocol.model import Range


def ready(round: int, tokens: int, used: Sequence[Range]) -> Note:
    """Training is done."""
    return Note("ready", {"round": round, "tokens": tokens, "samples": ledger.size(used)})


def reducing(plan: Plan, coordinator: str) -> Note:
    """We begin to reduce as this plan says."""
    draft = plan.draft
    members, start, kept, ranks = draft.members, 0, 0, set[int]()
    for segment, route in zip(draft.segments, plan.routes, strict=True):
        kept += (segment.stop - start) if route.done else 0
        start = segment.stop
        ranks.update(bitmap.unpack(segment.contributors))
    return Note(
        "reducing",
        {
            "round": plan.ballot.round,
            "attempt": plan.ballot.attempt,
            "coordinator": coordinator,
            "members": len(draft.voters),
            "seats": draft.voters,
            "contributors": tuple(members[rank] for rank in sorted(ranks)),
            "values": start,
            "kept": kept,
        },
    )


def superseded(ballot: Ballot, peer: str) -> Note:
    """We stop our reduce, for `peer` asked for a promise."""
    return Note("superseded", {"round": ballot.round, "attempt": ballot.attempt, "peer": peer})


def voted(ballot: Ballot, digest: bytes) -> Note:
    """We hold the whole mean and have signed the record with this hash."""
    return Note("voted", {"round": ballot.round, "attempt": ballot.attempt, "record": digest.hex()})


def committed(signed: SignedRecord) -> Note:
    """We learned of a commit that we can apply."""
    record = signed.record
    part = {"fragment": record.fragment, "fragments": record.fragments} if record.fragments > 1 else {}
    return Note(
        "committed",
        {
            "round": record.round,
            "attempt": record.ballot.attempt,
            "record": record_hash(record).hex(),
            "members": record.members,
            "weights": record.weights,
            "lost": tuple(seat.peer for seat in record.seats if not seat.present),
            "signatures": len(signed.signatures),
            **part,
        },
    )


def refused(round: int, peer: str, message: str, reason: str) -> Note:
    """We do not follow a message about a round."""
    return Note("refused_message", {"round": round, "peer": peer, "message": message, "reason": reason})


def behind(round: int, reason: str) -> Note:
    """The swarm went on without us."""
    return Note("behind", {"round": round, "reason": reason})


def asked_for_record(round: int, peer: str) -> Note:
    """Somebody has committed our round, and is asked for its record."""
    return Note("asked_for_record", {"round": round, "peer": peer})


def stood_still(round: int, seconds: float) -> Note:
    """We ourselves did nothing for so long: frozen, or the machine asleep."""
    return Note("stood_still", {"round": round, "seconds": seconds})
