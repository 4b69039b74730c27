"""Every message two nodes exchange, and its msgpack form.

A message is a frozen, strictly validated pydantic model: bytes from the network become one of these classes or a
`BadMessage`, never anything else. On the wire a message is the msgpack array `[kind, fields...]` in declaration order:
field names are not sent. Bulk payloads (codes, scales, state chunks) travel beside the message, not in it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from p2p.protocol.ballot import Ballot
from p2p.protocol.message import Message
from p2p.protocol.model import (
    MAX_FRAGMENTS,
    MAX_MEMBERS,
    MAX_PIECES,
    MAX_RANGES,
    MAX_SEGMENTS,
    BadMessage,
    Bitmap,
    Count,
    Digest,
    Model,
    OptionalDigest,
    PeerId,
    Range,
    Round,
    Signature,
    Tag,
    fields,
    pack,
    unpack,
)
from p2p.protocol.transfer_messages import (
    Chunk,
    GetChunk,
    GetManifest,
    GetMean,
    Manifest,
    MeanSlice,
    NotAvailable,
    Withdraw,
)

Phase = Literal["syncing", "training", "ready", "reducing", "voted", "leaving"]
"""What a node is doing."""


# --- the committed round -------------------------------------------------------------------------------------------


class Seat(Model):
    """One member's part in a round: what it trained on, and what it has to give."""

    peer: PeerId
    tokens: Count
    used: Annotated[tuple[Range, ...], Field(max_length=MAX_RANGES)]
    present: bool = True
    """False: it was lost on the way. What it had contributed by then stays, but it has no vote and no place in the next
    view."""
    codes: Tag = 0
    """As in its `Ready`."""
    earlier: Count = 0
    """As in its `Ready`."""

    @property
    def weight(self) -> int:
        """In the mean; 0 means it only receives."""
        return self.tokens + self.earlier


class Segment(Model):
    """A stretch of the round's fragment whose mean was made by the same contributors."""

    stop: Count
    """The first value behind it; it begins where the one before it stops."""
    contributors: Bitmap
    """Ranks of the seats whose codes are in the mean (p2p.protocol.bitmap)."""
    digest: OptionalDigest
    """BLAKE3 of the mean's bytes (scales, then codes); empty in a draft."""


class Assignment(Model):
    """Samples that a member of the next view may train on."""

    peer: PeerId
    ranges: Annotated[tuple[Range, ...], Field(max_length=MAX_RANGES)]
    trained: Annotated[tuple[Count, ...], Field(max_length=MAX_FRAGMENTS - 1)] = ()
    """Its tokens of the last rounds, the newest last: as many as there are fragments besides that of the next round."""


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
    """Of contributions; that of means follows from it."""
    piece: Count
    """Values in a piece (p2p.protocol.pieces); 0 when no seat has weight."""
    segments: Annotated[tuple[Segment, ...], Field(max_length=MAX_SEGMENTS)]
    """They tile the round's fragment; empty when no seat has weight."""
    state_root: OptionalDigest
    """Root of the state that this round started from, as its members reported it."""
    tokens_total: Count
    """Tokens committed by this lineage up to and including this round."""
    ledger: Ledger
    """Ledger after this round; its assignments are the next view."""
    fragments: Annotated[int, Field(ge=1, le=MAX_FRAGMENTS)] = 1
    """Of the run (p2p.protocol.fragments). Segments and pieces are of the round's fragment."""

    @property
    def fragment(self) -> int:
        return self.round % self.fragments

    @property
    def members(self) -> tuple[str, ...]:
        """All seats, by rank."""
        return tuple(seat.peer for seat in self.seats)

    @property
    def voters(self) -> tuple[str, ...]:
        """The seats that were present to the end."""
        return tuple(seat.peer for seat in self.seats if seat.present)

    @property
    def weights(self) -> tuple[int, ...]:
        return tuple(seat.weight for seat in self.seats)

    @property
    def tokens(self) -> int:
        return sum(seat.tokens for seat in self.seats)

    @property
    def steps(self) -> bool:
        """Whether this round moves the parameters (somebody has trained)."""
        return any(seat.weight for seat in self.seats)

    @property
    def complete(self) -> bool:
        """Whether it holds the result: a record, no draft."""
        return all(segment.digest for segment in self.segments)

    def with_digests(self, digests: tuple[bytes, ...]) -> Record:
        """The record that this draft becomes with these digests of its segments."""
        pairs = zip(self.segments, digests, strict=True)
        segments = tuple(segment.model_copy(update={"digest": digest}) for segment, digest in pairs)
        return self.model_copy(update={"segments": segments})

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
    codes: Tag = 0
    """A random name of the codes that it gives; 0: none. Who has restarted gives others, though it trained alike."""
    earlier: Count = 0
    """Tokens of earlier rounds whose work is in the codes, too: of those since the fragment was last averaged."""


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
    moved: Count
    """Values of parts and means that others brought the sender in the running attempt: shows whether it moves."""
    promised: Ballot | None
    ready: Ready | None
    vote: Vote | None
    hears: Annotated[tuple[Tag, ...], Field(max_length=MAX_MEMBERS)]
    """Tags (p2p.protocol.liveness) of the peers that the sender hears."""
    silent: Annotated[tuple[tuple[PeerId, float], ...], Field(max_length=MAX_MEMBERS)]
    """Peers the sender has not heard from of late, and for how many seconds (an age, never a clock reading)."""
    waiting_on: Annotated[tuple[PeerId, ...], Field(max_length=MAX_MEMBERS)]
    """Members whose bytes the sender's reduce still misses."""
    rates: tuple[Count, Count] = (0, 0)
    """What the sender's link does, up and down, bytes a second; 0: not measured. A plan's spans go by it."""


class Prepare(Message):
    """A new coordinator asks for promises and votes before it starts attempt `ballot.attempt`."""

    KIND = "prepare"
    ballot: Ballot


class Route(Model):
    """How the mean of one segment comes about in an attempt."""

    owner: Count
    """Rank of the seat that reduces the segment, or has it already, and sends its mean to all others."""
    done: bool
    """The owner holds the whole mean: nobody sends parts."""


class Plan(Message):
    """The coordinator's order to reduce.

    `draft` is the record without digests; or, when the result of an earlier attempt is adopted, that very record.
    """

    KIND = "plan"
    ballot: Ballot
    draft: Record
    routes: Annotated[tuple[Route, ...], Field(max_length=MAX_SEGMENTS)]
    """One a segment."""


class Promise(Message):
    """Answer to Prepare: the sender follows no lower ballot any more, and tells what it has of earlier attempts."""

    KIND = "promise"
    ballot: Ballot
    ready: Ready | None
    """What the sender has to give in this round: its last status may be older."""
    plan: Plan | None
    """The newest plan of this round that it took up."""
    means: Annotated[tuple[Count, ...], Field(max_length=MAX_SEGMENTS)]
    """For each segment of that plan, how many of its leading pieces it holds the mean of."""
    parts: Annotated[tuple[tuple[Count, ...], ...], Field(max_length=MAX_SEGMENTS)]
    """For each segment, if the sender owns it: how many leading pieces it has from each contributor; else empty."""
    vote: Vote | None
    """Its newest vote in this round."""
    voted: Record | None
    """The record of that vote; the sender holds all of its mean."""


class Commit(Message):
    KIND = "commit"
    signed: SignedRecord


# --- the butterfly (payload: scales then codes of values [start, stop)) ----------------------------------------------


class Go(Message):
    """The sender knows the plan of `ballot` and has room: tensors may be sent to it. Nobody sends them unasked, but for
    the first parts (p2p/reduce/early.py).

    Sent at the start of an attempt, whenever room grows, and again on a new link (what was in flight on the old one may
    be lost). An owner's pieces are counted in the order of the vector.
    """

    KIND = "go"
    ballot: Ballot
    room: Count
    """The receiver may have sent this many leading pieces of the sender's own in all, as parts."""
    parts: Annotated[bytes, Field(max_length=MAX_PIECES // 8)]
    """Which of its own pieces the sender needs no part of. Counts in the first Go on a link."""
    means: Annotated[bytes, Field(max_length=MAX_PIECES // 8)]
    """Which of the receiver's pieces the sender holds the mean of. Counts in the first Go on a link."""


class Part(Message):
    """A contributor's codes for a piece that the receiver owns."""

    KIND = "part"
    ballot: Ballot
    start: Count
    stop: Count


class Mean(Message):
    """The reduced codes of a piece that the sender owns."""

    KIND = "mean"
    ballot: Ballot
    start: Count
    stop: Count


# --- the chain of records ------------------------------------------------------------------------------------------


class GetRecords(Message):
    KIND = "get-records"
    start: Round
    limit: Annotated[int, Field(ge=1, le=64)]


class Records(Message):
    KIND = "records"
    start: Round
    records: Annotated[tuple[SignedRecord, ...], Field(max_length=64)]


_KINDS: tuple[type[Message], ...] = (
    *(Status, Prepare, Promise, Plan, Commit),
    *(Go, Part, Mean),
    *(GetRecords, Records, GetManifest, Manifest, GetChunk, Chunk, GetMean, MeanSlice, NotAvailable, Withdraw),
)
MESSAGES: dict[str, type[Message]] = {cls.KIND: cls for cls in _KINDS}


def encode(message: Message) -> bytes:
    """The message's msgpack bytes."""
    return pack([message.KIND, *fields(message)])


def decode(data: bytes | memoryview) -> Message:
    """Inverse of `encode`. Raises BadMessage on anything that is not exactly one valid message."""
    values = unpack(data)
    if not isinstance(values, tuple) or not values or not isinstance(values[0], str):
        raise BadMessage("not an array that starts with a kind")
    kind = MESSAGES.get(values[0])
    if kind is None:
        raise BadMessage(f"unknown kind {values[0][:32]!r}")
    return kind.from_wire(values[1:])
