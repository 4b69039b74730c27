"""Runs for tests of the audit: chains that an honest swarm could have committed, with any history of membership."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from p2p.protocol import ledger
from p2p.protocol.chain import Tip, record_hash
from p2p.protocol.messages import Ledger, Record, Seat, SignedRecord
from tests.p2p.protocol.records import FINGERPRINT, next_record, peer, signed

QUOTA = 8
TOKENS = 10
"""In a sample."""

Turn = Sequence[tuple[int, int]]
"""Who sits in a round, and how many of its samples each has used (at most those it has)."""

turns = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, QUOTA)), min_size=1, max_size=5, unique_by=lambda t: t[0]),
    min_size=1,
    max_size=8,
)


def follow(tip: Tip, state: Ledger, turn: Turn, quota: int = QUOTA) -> Record:
    """The record of a round in which these members took part."""
    seats = []
    for index, most in turn:
        used, _ = ledger.take(ledger.assigned_to(state, peer(index)), most)
        seats.append(Seat(peer=peer(index), tokens=TOKENS * ledger.size(used), used=used))
    return record_of(tip, tuple(seats), ledger.settle(state, seats, quota))


def record_of(tip: Tip, seats: tuple[Seat, ...], after: Ledger, root: bytes | None = None) -> Record:
    """By default from a root that moves when something was committed."""
    tokens = sum(seat.tokens for seat in seats)
    shape = next_record(tip, len(seats), tokens, root=root if root is not None else tip.tokens_total.to_bytes(32))
    return shape.model_copy(update={"seats": seats, "tokens_total": tip.tokens_total + tokens, "ledger": after})


def run(turns: Sequence[Turn], fingerprint: bytes = FINGERPRINT) -> list[SignedRecord]:
    """The chain of a run with these rounds."""
    return extend([], turns, fingerprint)


def extend(
    chain: Sequence[SignedRecord], turns: Sequence[Turn], fingerprint: bytes = FINGERPRINT
) -> list[SignedRecord]:
    """The chain, and these rounds after it."""
    records = list(chain)
    for turn in turns:
        records.append(signed(follow(tip_of(records, fingerprint), ledger_of(records), turn)))
    return records


def tip_of(chain: Sequence[SignedRecord], fingerprint: bytes = FINGERPRINT) -> Tip:
    tip = Tip.genesis(fingerprint)
    if not chain:
        return tip
    last = chain[-1].record
    return Tip(fingerprint, last.round, record_hash(last), last.tokens_total)


def ledger_of(chain: Sequence[SignedRecord]) -> Ledger:
    return chain[-1].record.ledger if chain else ledger.EMPTY
