"""The chain of records: how a record is hashed, which record may follow which, and who must have signed it.

A record names the hash of the one before it, so the hash of the newest (the head) stands for the whole history of the
run. Anybody can check a chain from the run's fingerprint alone; nothing in it has to be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, Self

from blake3 import blake3

from p2p.protocol import bitmap
from p2p.protocol.ballot import lineage_of
from p2p.protocol.messages import Record, SignedRecord
from p2p.protocol.model import MAX_MESSAGE_BYTES, pack

GENESIS = -1
"""Round of the state before the first record."""
SIGNATURE_DOMAIN = b"swarm-record"
"""Domain under which members sign a record's hash."""
RECORDS_BYTES = MAX_MESSAGE_BYTES // 2
"""Most bytes of records in one answer."""
_hashes: list[tuple[Record, bytes] | None] = [None] * 256
"""The last records that were hashed, each in the slot of its address: every one is asked for several times."""
_RECORD_PREFIX = b"swarm record 2\0"
_GENESIS_PREFIX = b"swarm genesis 1\0"

Verify = Callable[[str, bytes, bytes, bytes], bool]
"""(peer id, domain, data, signature) -> whether that peer signed; `p2p.identity.verify`."""


class InvalidRecord(ValueError):
    """A record that may not stand where it was offered; the text says why."""


def genesis_hash(fingerprint: bytes) -> bytes:
    """What the first record of the run with this fingerprint names as its previous hash: 32 bytes."""
    return blake3(_GENESIS_PREFIX + fingerprint).digest()


def record_hash(record: Record) -> bytes:
    """BLAKE3 over the record's canonical msgpack form: 32 bytes."""
    slot = id(record) // 64 % len(_hashes)
    known = _hashes[slot]
    if known is None or known[0] is not record:
        known = _hashes[slot] = (record, wire_hash(record))
    return known[1]


def wire_hash(record: object) -> bytes:
    """`record_hash` of a record that is still (or again) plain msgpack types."""
    return blake3(_RECORD_PREFIX + pack(record)).digest()


@dataclass(frozen=True)
class Tip:
    """The end of a chain: all that is needed to judge the next record."""

    fingerprint: bytes
    height: int
    head: bytes
    tokens_total: int

    @classmethod
    def genesis(cls, fingerprint: bytes) -> Self:
        return cls(fingerprint, GENESIS, genesis_hash(fingerprint), 0)

    def extended(self, record: Record) -> Tip:
        """The tip after `record`. Signatures are `check_signatures`' matter. Raises InvalidRecord."""
        if record.fingerprint != self.fingerprint:
            raise InvalidRecord("record of another run")
        if record.round != self.height + 1:
            raise InvalidRecord(f"record of round {record.round} after round {self.height}")
        if record.previous != self.head:
            raise InvalidRecord(f"record of round {record.round} follows another history")
        if record.tokens_total != self.tokens_total + record.tokens:
            raise InvalidRecord(f"record of round {record.round} miscounts its tokens")
        _check_shape(record)
        return Tip(self.fingerprint, record.round, record_hash(record), record.tokens_total)


def _check_shape(record: Record) -> None:
    where = f"record of round {record.round}"
    seats = len(record.seats)
    if record.ballot.lineage != lineage_of(record.previous):
        raise InvalidRecord(f"{where} was agreed on in a ballot of another history")
    if record.ballot.round != record.round:
        raise InvalidRecord(f"{where} was agreed on in a ballot of round {record.ballot.round}")
    if len(set(record.members)) != seats:
        raise InvalidRecord(f"{where} seats a peer twice")
    if not any(seat.present for seat in record.seats):
        raise InvalidRecord(f"{where} has nobody present")
    if not record.steps:
        if record.segments or record.piece:
            raise InvalidRecord(f"{where} has no weight but a mean")
        return
    stops = [0, *(segment.stop for segment in record.segments)]
    if len(stops) < 2 or any(low >= high for low, high in pairwise(stops)):
        raise InvalidRecord(f"{where} has segments that do not tile its fragment")
    if not record.complete or not all(bitmap.fits(s.contributors, seats) for s in record.segments):
        raise InvalidRecord(f"{where} has segments without a digest, or contributors without a seat")


def check_signatures(signed: SignedRecord, verify: Verify) -> None:
    """Every signature is by a seat, valid and the only one of that seat; there is at least one. Raises InvalidRecord.

    One is enough here: when a coordinator dies after the vote, its successor commits with the votes that still exist.
    """
    where = f"record of round {signed.record.round}"
    members = signed.record.members
    ranks = [rank for rank, _ in signed.signatures]
    if not ranks:
        raise InvalidRecord(f"{where} is not signed")
    if len(set(ranks)) != len(ranks) or max(ranks) >= len(members):
        raise InvalidRecord(f"{where} has signatures that belong to no seat")
    digest = record_hash(signed.record)
    for rank, signature in signed.signatures:
        if not verify(members[rank], SIGNATURE_DOMAIN, digest, signature):
            raise InvalidRecord(f"{where} has a forged signature of {members[rank]}")


class RecordChain(Protocol):
    """A run's records from round 0 on, wherever they are kept. Round -1 (genesis) has a hash but no record."""

    @property
    def tip(self) -> Tip: ...

    def append(self, signed: SignedRecord) -> None:
        """Add the record of round height + 1. Signatures are not checked again. Raises InvalidRecord."""

    def truncate(self, height: int) -> None:
        """Forget every record after round `height`."""

    def hash_at(self, round: int) -> bytes:
        """Hash of the record of `round`; -1 <= round <= height."""

    def record(self, round: int) -> SignedRecord:
        """The record of `round`; 0 <= round <= height."""

    def records(self, start: int, limit: int, max_bytes: int = RECORDS_BYTES) -> tuple[SignedRecord, ...]:
        """Records from round `start` on, at most `limit`, in at most `max_bytes` (but one, if there is one)."""


class MemoryChain:
    """A RecordChain without a disk: for the simulator and for observers."""

    def __init__(self, fingerprint: bytes, records: Iterable[SignedRecord] = ()) -> None:
        self._tips = [Tip.genesis(fingerprint)]
        self._records: list[SignedRecord] = []
        for signed in records:
            self.append(signed)

    @property
    def tip(self) -> Tip:
        return self._tips[-1]

    def append(self, signed: SignedRecord) -> None:
        self._tips.append(self.tip.extended(signed.record))
        self._records.append(signed)

    def truncate(self, height: int) -> None:
        assert GENESIS <= height <= self.tip.height
        del self._tips[height + 2 :]
        del self._records[height + 1 :]

    def hash_at(self, round: int) -> bytes:
        assert round >= GENESIS
        return self._tips[round + 1].head

    def record(self, round: int) -> SignedRecord:
        assert round >= 0
        return self._records[round]

    def records(self, start: int, limit: int, max_bytes: int = RECORDS_BYTES) -> tuple[SignedRecord, ...]:
        assert start >= 0
        found: list[SignedRecord] = []
        size = 0
        for signed in self._records[start : start + limit]:
            size += len(pack(signed))
            if found and size > max_bytes:
                break
            found.append(signed)
        return tuple(found)


def state_root_after(chain: RecordChain, round: int) -> bytes:
    """Root of the state after `round` as the members of the next round signed it; empty if there is none (yet)."""
    return chain.record(round + 1).record.state_root if round < chain.tip.height else b""
