"""Every message two nodes exchange, and its msgpack form.

A message is a frozen, strictly validated pydantic model: bytes from the network become one of these classes or a
`BadMessage`, never anything else. On the wire a message is the msgpack array `[kind, fields...]` in declaration order:
field names are not sent. Bulk payloads (codes, scales, state chunks) travel beside the message, not in it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgpack
from pydantic import Field

from p2p.protocol.model import (
    MAX_MEMBERS,
    MAX_RANGES,
    BadMessage,
    Count,
    Digest,
    Model,
    OptionalDigest,
    PeerId,
    Range,
    Reason,
    Round,
    Signature,
    unpack,
)

Phase = Literal["syncing", "training", "ready", "reducing", "voted", "leaving"]
"""What a node is doing."""


class Message(Model):
    """A message of its own on the wire; `KIND` is its one-word name there."""

    KIND: ClassVar[str]


class Ballot(Model):
    """Orders the attempts at a round: compared as (round, attempt, rank)."""

    round: Round
    attempt: Count
    rank: Count

    def key(self) -> tuple[int, int, int]:
        return (self.round, self.attempt, self.rank)

    def __lt__(self, other: Ballot) -> bool:
        return self.key() < other.key()

    def __le__(self, other: Ballot) -> bool:
        return self.key() <= other.key()


# --- the committed round -------------------------------------------------------------------------------------------


class Seat(Model):
    """One member's part in a round: `tokens` is its weight in the mean; 0 means it only receives."""

    peer: PeerId
    tokens: Count
    used: Annotated[tuple[Range, ...], Field(max_length=MAX_RANGES)]


class Assignment(Model):
    """Samples that a member of the next view may train on."""

    peer: PeerId
    ranges: Annotated[tuple[Range, ...], Field(max_length=MAX_RANGES)]


class Ledger(Model):
    """Which samples of the global order are spoken for: all below `cursor` but those in `free`."""

    cursor: Count
    free: Annotated[tuple[Range, ...], Field(max_length=MAX_RANGES)]
    assigned: Annotated[tuple[Assignment, ...], Field(max_length=MAX_MEMBERS)]


class Record(Model):
    """What a round committed. Hash-chained by `previous`; signed by every voter."""

    round: Round
    previous: Digest
    fingerprint: Digest
    ballot: Ballot
    seats: Annotated[tuple[Seat, ...], Field(min_length=1, max_length=MAX_MEMBERS)]
    codec: Annotated[str, Field(max_length=32)]
    spans: Annotated[tuple[Count, ...], Field(max_length=MAX_MEMBERS + 1)]
    """Bounds of the members' spans in the flat vector, one more than seats; empty when no seat has weight."""
    digests: Annotated[tuple[Digest, ...], Field(max_length=MAX_MEMBERS)]
    """BLAKE3 of each span's mean bytes (scales, then codes); empty in a draft and when no seat has weight."""
    state_root: OptionalDigest
    """Root of the state that this round started from, as its members reported it."""
    tokens_total: Count
    """Tokens committed by this lineage up to and including this round."""
    ledger: Ledger
    """Ledger after this round; its assignments are the next view."""

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(seat.peer for seat in self.seats)

    @property
    def weights(self) -> tuple[int, ...]:
        return tuple(seat.tokens for seat in self.seats)

    @property
    def steps(self) -> bool:
        """Whether this round moves the parameters (somebody trained)."""
        return any(seat.tokens for seat in self.seats)

    @property
    def next_view(self) -> tuple[str, ...]:
        return tuple(assignment.peer for assignment in self.ledger.assigned)


class SignedRecord(Model):
    record: Record
    signatures: Annotated[tuple[tuple[Count, Signature], ...], Field(max_length=MAX_MEMBERS)]
    """(rank in record.seats, Ed25519 signature over the record's hash)."""


class Ready(Model):
    """This member has finished training for `round` and waits for the reduce."""

    round: Round
    tokens: Count
    used: Annotated[tuple[Range, ...], Field(max_length=MAX_RANGES)]


class Vote(Model):
    """This member holds every mean byte of the attempt and has signed the record they make."""

    ballot: Ballot
    record_hash: Digest
    signature: Signature


class Status(Message):
    """Heartbeat: all a peer needs to know of the sender, idempotent, sent every 2 s and at every change."""

    KIND = "status"
    sequence: Count
    height: Round
    head: Digest
    tokens_total: Count
    state_root: OptionalDigest
    """Root of the sender's state at `height`; empty while it does not hold it."""
    phase: Phase
    inner_step: Count
    reduced: Count
    """Values whose mean the sender holds in the running reduce: shows whether it moves."""
    promised: Ballot | None
    ready: Ready | None
    vote: Vote | None
    hears: Annotated[tuple[Annotated[int, Field(ge=0, lt=1 << 32)], ...], Field(max_length=MAX_MEMBERS)]
    """Tags (p2p.protocol.liveness) of the peers that the sender hears."""
    silent: Annotated[tuple[tuple[PeerId, float], ...], Field(max_length=MAX_MEMBERS)]
    """Peers the sender has not heard from of late, and for how many seconds (an age, never a clock reading)."""
    waiting_on: Annotated[tuple[PeerId, ...], Field(max_length=MAX_MEMBERS)]
    """Members whose bytes the sender's reduce still misses."""


class Prepare(Message):
    """A new coordinator asks for promises and votes before it starts attempt `ballot.attempt`."""

    KIND = "prepare"
    ballot: Ballot
    head: Digest


class Voted(Message):
    """Answer to Prepare: the record the sender voted for, and its signature, so that it can be committed after all."""

    KIND = "voted"
    record: Record
    signature: Signature


class Plan(Message):
    """The coordinator's order to reduce: `draft` is the record without its digests."""

    KIND = "plan"
    draft: Record


class Commit(Message):
    KIND = "commit"
    signed: SignedRecord


# --- the butterfly (payload: scales then codes of values [start, stop)) ----------------------------------------------


class Go(Message):
    """The sender knows the plan of `ballot` and has room: tensors may be sent to it. Nobody sends them unasked.

    Pieces of a span are counted from its start. Sent at the start of an attempt, whenever room grows, and again on a
    new link (what was in flight on the old one may be lost).
    """

    KIND = "go"
    ballot: Ballot
    room: Count
    """The receiver may have sent this many leading pieces of the sender's span in all, as parts."""
    parts: Count
    """The sender holds this many leading pieces of its own span from the receiver."""
    means: Count
    """The sender holds this many leading pieces of the receiver's span."""


class Part(Message):
    """A contributor's codes for a piece of the receiver's span."""

    KIND = "part"
    ballot: Ballot
    start: Count
    stop: Count


class Mean(Message):
    """The reduced codes of a piece of the sender's span."""

    KIND = "mean"
    ballot: Ballot
    start: Count
    stop: Count


# --- state transfer ------------------------------------------------------------------------------------------------


class GetRecords(Message):
    KIND = "get-records"
    start: Round
    limit: Annotated[int, Field(ge=1, le=64)]


class Records(Message):
    KIND = "records"
    start: Round
    records: Annotated[tuple[SignedRecord, ...], Field(max_length=64)]


class GetManifest(Message):
    KIND = "get-manifest"
    request: Count
    round: Round


class Manifest(Message):
    """Payload: one 32-byte BLAKE3 digest a chunk."""

    KIND = "manifest"
    request: Count
    round: Round


class GetChunk(Message):
    KIND = "get-chunk"
    request: Count
    index: Count


class Chunk(Message):
    """Payload: the chunk's bytes as they were after `round` committed."""

    KIND = "chunk"
    request: Count
    round: Round
    index: Count


class GetMean(Message):
    KIND = "get-mean"
    request: Count
    round: Round
    start: Count
    stop: Count


class MeanSlice(Message):
    """Payload: the scales, then the codes of the committed mean for values [start, stop)."""

    KIND = "mean-slice"
    request: Count
    round: Round
    start: Count
    stop: Count


class NotAvailable(Message):
    """The answer to a request that the donor cannot serve (any more)."""

    KIND = "not-available"
    request: Count
    reason: Reason


_KINDS: tuple[type[Message], ...] = (
    *(Status, Prepare, Voted, Plan, Commit),
    *(Go, Part, Mean),
    *(GetRecords, Records, GetManifest, Manifest, GetChunk, Chunk, GetMean, MeanSlice, NotAvailable),
)
MESSAGES: dict[str, type[Message]] = {cls.KIND: cls for cls in _KINDS}


def encode(message: Message) -> bytes:
    """The message's msgpack bytes."""
    return bytes(msgpack.packb([message.KIND, *message.to_wire()], use_bin_type=True))


def decode(data: bytes | memoryview) -> Message:
    """Inverse of `encode`. Raises BadMessage on anything that is not exactly one valid message."""
    values = unpack(data)
    if not isinstance(values, tuple) or not values or not isinstance(values[0], str):
        raise BadMessage("not an array that starts with a kind")
    kind = MESSAGES.get(values[0])
    if kind is None:
        raise BadMessage(f"unknown kind {values[0][:32]!r}")
    return kind.from_wire(values[1:])
