"""What a coordinator proposes and what a member accepts: a draft of the record, and a route for each of its segments.

A draft is a record without its digests. Everything in it follows from the head of the lineage and from what the members
said in their `Ready`, so every member checks all of it: a coordinator can only decide who takes part. The routes say
who reduces what; they leave no trace in the record.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from p2p.protocol import bitmap, ledger
from p2p.protocol.ballot import Ballot, lineage_of
from p2p.protocol.chain import genesis_hash, record_hash
from p2p.protocol.fragments import Fragments, earlier_tokens
from p2p.protocol.messages import Ledger, Plan, Ready, Record, Route, Seat, Segment
from p2p.protocol.model import MAX_PIECES
from p2p.protocol.pieces import PIECE_SIZE, PieceSize, piece_size, plan_spans
from p2p.protocol.shares import Rates, shares_of

MAX_TOKENS = 1 << 40
"""Most that one member trains on in a round; the sums of all rounds then fit a Count."""
ROUNDING = 1e-9


class BadPlan(ValueError):
    """A draft that does not follow from what this member knows; the text says why."""


@dataclass(frozen=True)
class Rules:
    """What all members of a run agree on."""

    fingerprint: bytes
    count: int
    """Values in the flat vector."""
    codec: str
    block: int
    """Values in a block of the codec: spans are cut there, counted from the start of the fragment."""
    quota: int
    """Samples that a member is given for a round."""
    min_peers: int = 1
    """Members that a round needs."""
    founders: int = 1
    """Members that the first round, which forms the first view, needs at least."""
    pieces: PieceSize = PIECE_SIZE
    """How a coordinator sizes pieces; members take any size."""
    cuts: tuple[int, ...] = ()
    """Where the flat vector is cut into fragments."""

    @cached_property
    def fragments(self) -> Fragments:
        """What each round averages."""
        return Fragments((0, *self.cuts, self.count))

    def quorum(self, head: Head) -> int:
        """Members that the round after `head` needs."""
        return max(self.min_peers, self.founders if head.record is None else 1)


@dataclass(frozen=True)
class Head:
    """The newest record of a lineage, or its genesis (record None, height -1)."""

    fingerprint: bytes
    record: Record | None = None

    @property
    def height(self) -> int:
        return -1 if self.record is None else self.record.round

    @cached_property
    def hash(self) -> bytes:
        return genesis_hash(self.fingerprint) if self.record is None else record_hash(self.record)

    @cached_property
    def lineage(self) -> int:
        return lineage_of(self.hash)

    def ballot(self, attempt: int, rank: int) -> Ballot:
        """That of an attempt at the round after this record."""
        return Ballot(round=self.height + 1, attempt=attempt, rank=rank, lineage=self.lineage)

    @property
    def tokens_total(self) -> int:
        return 0 if self.record is None else self.record.tokens_total

    @property
    def ledger(self) -> Ledger:
        return ledger.EMPTY if self.record is None else self.record.ledger

    @cached_property
    def view(self) -> tuple[str, ...]:
        """The members of the next round, in rank order; empty before the formation round."""
        return () if self.record is None else self.record.next_view


def objection_to(head: Head, peer: str, ready: Ready) -> str:
    """Why no seat can be made of this report; empty if one can. No honest member sends such."""
    if ready.tokens > MAX_TOKENS:
        return f"it claims {ready.tokens:,} tokens"
    if ready.tokens and peer not in head.view:
        return "it claims tokens without a place in the view"
    if ready.earlier not in earlier_tokens(ledger.trained_by(head.ledger, peer)):
        return f"it claims {ready.earlier:,} tokens of earlier rounds"
    try:
        ledger.check_claim(head.ledger, peer, ready.used)
    except ledger.BadClaim as error:
        return str(error)
    return ""


def fresh(
    rules: Rules,
    head: Head,
    ballot: Ballot,
    ready: Mapping[str, Ready],
    state_root: bytes,
    owners: Collection[str],
    rates: Mapping[str, Rates] | None = None,
) -> Plan:
    """The plan of a first attempt for the members in `ready`: those of the view in its order, then newcomers by id.

    `owners`: the members, of those in `ready`, that may reduce a span; how much of the vector goes by their `rates`.
    """
    newcomers = sorted(set(ready) - set(head.view))
    order = [peer for peer in head.view if peer in ready] + newcomers
    seats = tuple(seat_of(peer, ready[peer]) for peer in order)
    contributors = [rank for rank, seat in enumerate(seats) if seat.weight]
    if not contributors:
        return Plan(ballot=ballot, draft=draft_of(rules, head, ballot, seats, 0, (), state_root), routes=())
    count = rules.fragments.size(ballot.round)
    shares = shares_of(order, {order[rank] for rank in contributors}, owners, rates or {})
    somebody_is_slow = max(shares) * len(owners) > 1 + ROUNDING
    piece = piece_size(count, len(owners), rules.block, rules.pieces.finer() if somebody_is_slow else rules.pieces)
    spans = plan_spans(count, shares, piece)
    owned = [(rank, stop) for rank, (start, stop) in enumerate(itertools.pairwise(spans)) if start < stop]
    everybody = bitmap.pack(contributors, len(seats))
    segments = tuple(Segment(stop=stop, contributors=everybody, digest=b"") for _, stop in owned)
    draft = draft_of(rules, head, ballot, seats, piece, segments, state_root)
    return Plan(ballot=ballot, draft=draft, routes=tuple(Route(owner=rank, done=False) for rank, _ in owned))


def seat_of(peer: str, ready: Ready) -> Seat:
    """The seat of a member that reports this."""
    return Seat(peer=peer, tokens=ready.tokens, used=ready.used, codes=ready.codes, earlier=ready.earlier)


def draft_of(
    rules: Rules,
    head: Head,
    ballot: Ballot,
    seats: tuple[Seat, ...],
    piece: int,
    segments: tuple[Segment, ...],
    state_root: bytes,
) -> Record:
    """The draft with these seats and segments; all else follows from the head."""
    return Record(
        round=head.height + 1,
        previous=head.hash,
        fingerprint=rules.fingerprint,
        ballot=ballot,
        seats=seats,
        codec=rules.codec,
        piece=piece,
        segments=segments,
        state_root=state_root,
        tokens_total=head.tokens_total + sum(seat.tokens for seat in seats),
        ledger=ledger.settle(head.ledger, seats, rules.quota, len(rules.fragments)),
        fragments=len(rules.fragments),
    )


def check(rules: Rules, head: Head, plan: Plan, me: str, ready: Ready | None, state_root: bytes) -> None:
    """Raise BadPlan unless `plan` is one that `me` can take part in: see each line."""
    draft = plan.draft
    check_draft(rules, head, draft)
    _require(draft.ballot == plan.ballot or (draft.complete and draft.ballot < plan.ballot), "its ballots do not fit")
    _require(draft.ballot != plan.ballot or not draft.steps or not draft.complete, "a new draft has no digests")
    mine = next((seat for seat in draft.seats if seat.peer == me), None)
    _require(mine is not None and mine.present, "we have no seat in it")
    _require(ready is not None and mine == seat_of(me, ready), "our seat is not what we reported")
    _require(draft.state_root == state_root, "it starts from another state than ours")
    _require(len(plan.routes) == len(draft.segments), "not one route a segment")
    for route in plan.routes:
        _require(
            route.owner < len(draft.seats) and draft.seats[route.owner].present, "a segment is owned by nobody present"
        )


def check_draft(rules: Rules, head: Head, draft: Record) -> None:
    """Raise BadPlan unless `draft`, or the record that it became, follows from `head`."""
    _require(draft.round == head.height + 1 and draft.previous == head.hash, "it does not extend our head")
    _require(draft.ballot.lineage == head.lineage, "its ballot is of another history")
    _require(draft.fingerprint == rules.fingerprint, "it belongs to another run")
    _require(draft.codec == rules.codec, f"codec {draft.codec!r} instead of {rules.codec!r}")
    fragments = len(rules.fragments)
    _require(draft.fragments == fragments, f"the vector in {draft.fragments} fragments instead of {fragments}")
    _require(len(set(draft.members)) == len(draft.members), "a member sits twice")
    _require(len(draft.voters) >= rules.quorum(head), "fewer members than min_peers or founders")
    _require(draft.tokens_total == head.tokens_total + draft.tokens, "its token count is wrong")
    _check_seats(head, draft.seats)
    _check_segments(rules, draft)
    try:
        settled = ledger.settle(head.ledger, draft.seats, rules.quota, fragments)
    except ledger.BadClaim as error:
        raise BadPlan(str(error)) from None
    _require(draft.ledger == settled, "its ledger does not follow from ours")


def _check_seats(head: Head, seats: Sequence[Seat]) -> None:
    rank = {peer: index for index, peer in enumerate(head.view)}
    order = [(rank.get(seat.peer, len(rank)), seat.peer if seat.peer not in rank else "") for seat in seats]
    _require(order == sorted(order), "its seats are out of order")
    _require(all(seat.weight == 0 for seat in seats if seat.peer not in rank), "a newcomer has weight")
    _require(all(seat.tokens <= MAX_TOKENS for seat in seats), "more tokens than anybody trains on")
    _require(all(seat.present or seat.weight for seat in seats), "an absent seat without weight")
    trained = {assignment.peer: assignment.trained for assignment in head.ledger.assigned}
    for seat in seats:
        known = not seat.earlier or seat.earlier in earlier_tokens(trained[seat.peer])
        _require(known, "a seat counts tokens of earlier rounds that it did not train on")


def _check_segments(rules: Rules, draft: Record) -> None:
    if not draft.steps:
        _require(draft.segments == () and draft.piece == 0, "segments without anything to reduce")
        return
    segments, piece, count = draft.segments, draft.piece, rules.fragments.size(draft.round)
    stops = [segment.stop for segment in segments]
    _require(piece > 0 and piece % rules.block == 0, "its pieces are not whole blocks")
    _require(count <= piece * MAX_PIECES, "its pieces are too small")
    _require(bool(segments) and stops[-1] == count, "its segments do not cover the fragment")
    _require(all(low < high for low, high in itertools.pairwise([0, *stops])), "its segments are out of order")
    _require(all(stop % piece == 0 for stop in stops[:-1]), "its segments are not cut at pieces")
    _require(all(bitmap.fits(s.contributors, len(draft.seats)) for s in segments), "contributors without a seat")
    _check_contributors(draft)


def _check_contributors(draft: Record) -> None:
    """Whoever is present contributes everywhere; whoever was lost contributed somewhere."""
    heavy = {rank for rank, seat in enumerate(draft.seats) if seat.weight}
    present = {rank for rank in heavy if draft.seats[rank].present}
    sets = [set(bitmap.unpack(contributors)) for contributors in {s.contributors for s in draft.segments}]
    _require(all(found and present <= found <= heavy for found in sets), "a segment misses a contributor")
    _require(set().union(*sets) == heavy, "an absent seat that contributed nothing")


def _require(condition: bool, why: str) -> None:
    if not condition:
        raise BadPlan(why)
