"""Records for tests: chains of any length, signed by stand-in keys."""

from __future__ import annotations

from blake3 import blake3

from p2p.protocol import bitmap
from p2p.protocol.ballot import Ballot, lineage_of
from p2p.protocol.chain import SIGNATURE_DOMAIN, Tip, record_hash
from p2p.protocol.messages import Assignment, Ledger, Record, Seat, Segment, SignedRecord

FINGERPRINT = bytes(range(32))


def peer(index: int) -> str:
    return f"12D3KooWtest{index:040d}"


def sign(peer_id: str, domain: bytes, data: bytes) -> bytes:
    """A stand-in for Ed25519: anybody could forge it, but only on purpose."""
    return blake3(domain + peer_id.encode() + data).digest(length=64)


def verify(peer_id: str, domain: bytes, data: bytes, signature: bytes) -> bool:
    return signature == sign(peer_id, domain, data)


def next_record(tip: Tip, members: int = 3, tokens: int = 100, count: int = 4096, root: bytes = b"") -> Record:
    """A record that may follow `tip`; without weight when `tokens` is 0."""
    seats = tuple(Seat(peer=peer(i), tokens=tokens, used=()) for i in range(members))
    everybody = bitmap.pack(range(members), members)
    segments = tuple(
        Segment(stop=count * (i + 1) // members, contributors=everybody, digest=bytes([i]) * 32) for i in range(members)
    )
    round = tip.height + 1
    return Record(
        round=round,
        previous=tip.head,
        fingerprint=tip.fingerprint,
        ballot=Ballot(round=round, attempt=0, rank=0, lineage=lineage_of(tip.head)),
        seats=seats,
        codec="int8",
        piece=count if tokens else 0,
        segments=segments if tokens else (),
        state_root=root,
        tokens_total=tip.tokens_total + tokens * members,
        ledger=Ledger(cursor=0, free=(), assigned=tuple(Assignment(peer=s.peer, ranges=()) for s in seats)),
    )


def signed(record: Record, signers: int | None = None) -> SignedRecord:
    members = record.members[:signers]
    digest = record_hash(record)
    return SignedRecord(
        record=record,
        signatures=tuple((rank, sign(member, SIGNATURE_DOMAIN, digest)) for rank, member in enumerate(members)),
    )


def history(length: int, members: int = 3, tokens: int = 100, fingerprint: bytes = FINGERPRINT) -> list[SignedRecord]:
    """The first `length` records of a run."""
    tip = Tip.genesis(fingerprint)
    found = []
    for _ in range(length):
        record = next_record(tip, members, tokens)
        tip = tip.extended(record)
        found.append(signed(record))
    return found
