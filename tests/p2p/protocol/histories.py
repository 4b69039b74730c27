"""Runs for tests of the audit: chains that an honest swarm could have committed, with any history of membership."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from p2p.protocol import bitmap, ledger
from p2p.protocol.chain import SIGNATURE_DOMAIN, record_hash
from p2p.protocol.messages import Record, Seat, Segment, SignedRecord
from p2p.protocol.plan import Head, Rules, draft_of
from tests.p2p.protocol.records import FINGERPRINT, peer, sign

QUOTA = 8
TOKENS = 10
"""In a sample."""
PIECE = 1024
RULES = Rules(FINGERPRINT, count=4 * PIECE - 7, codec="int8", block=PIECE, quota=QUOTA)

Turn = Sequence[tuple[int, int] | tuple[int, int, bool]]
"""Who sits in a round, how many of its samples each has used (at most those it has), and whether it was lost then."""

turns = st.lists(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, QUOTA), st.booleans()),
        min_size=1,
        max_size=5,
        unique_by=lambda member: member[0],
    ),
    min_size=1,
    max_size=8,
)


def head_of(chain: Sequence[SignedRecord], fingerprint: bytes = FINGERPRINT) -> Head:
    return Head(fingerprint, chain[-1].record if chain else None)


def follow(head: Head, turn: Turn) -> Record:
    """The record of a round in which these members took part."""
    seats: list[Seat] = []
    for index, most, *lost in turn:
        used, _ = ledger.take(ledger.assigned_to(head.ledger, peer(index)), most)
        tokens = TOKENS * ledger.size(used)
        if tokens or lost != [True]:
            seats.append(Seat(peer=peer(index), tokens=tokens, used=used, present=lost != [True]))
    if not any(seat.present for seat in seats):
        first = turn[0][0]
        seats = [seat for seat in seats if seat.peer != peer(first)] + [Seat(peer=peer(first), tokens=0, used=())]
    view = {member: rank for rank, member in enumerate(head.view)}
    return record_of(head, tuple(sorted(seats, key=lambda seat: (view.get(seat.peer, len(view)), seat.peer))))


def record_of(head: Head, seats: tuple[Seat, ...], root: bytes | None = None) -> Record:
    """By default from a root that moves when something was committed. Who was lost is in the mean of the first half."""
    heavy = [rank for rank, seat in enumerate(seats) if seat.tokens]
    present = [rank for rank in heavy if seats[rank].present] or heavy
    segments = tuple(
        Segment(stop=stop, contributors=bitmap.pack(ranks, len(seats)), digest=b"")
        for stop, ranks in ((2 * PIECE, heavy), (RULES.count, present))
    )
    draft = draft_of(
        replace(RULES, fingerprint=head.fingerprint),
        head,
        head.ballot(0, 0),
        seats,
        PIECE if heavy else 0,
        segments if heavy else (),
        root if root is not None else head.tokens_total.to_bytes(32),
    )
    return draft.with_digests(tuple(bytes([place]) * 32 for place in range(len(draft.segments))))


def signed(record: Record) -> SignedRecord:
    """By all who were there to the end."""
    digest = record_hash(record)
    votes = [
        (rank, sign(seat.peer, SIGNATURE_DOMAIN, digest)) for rank, seat in enumerate(record.seats) if seat.present
    ]
    return SignedRecord(record=record, signatures=tuple(votes))


def run(turns: Sequence[Turn], fingerprint: bytes = FINGERPRINT) -> list[SignedRecord]:
    """The chain of a run with these rounds."""
    return extend([], turns, fingerprint)


def extend(
    chain: Sequence[SignedRecord], turns: Sequence[Turn], fingerprint: bytes = FINGERPRINT
) -> list[SignedRecord]:
    """The chain, and these rounds after it."""
    records = list(chain)
    for turn in turns:
        records.append(signed(follow(head_of(records, fingerprint), turn)))
    return records
