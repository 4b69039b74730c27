"""What a coordinator proposes and what a member accepts: drafts of records. Pure functions.

A draft is a record without its digests. Everything in it follows from the head of the lineage and from what the members
said in their `Ready`, so every member checks all of it: a coordinator can only decide who takes part.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from p2p.protocol import ledger
from p2p.protocol.chain import genesis_hash, record_hash
from p2p.protocol.messages import Ballot, Ledger, Ready, Record, Seat
from p2p.protocol.pieces import plan_spans


class BadPlan(ValueError):
    """A draft that does not follow from what this member knows; the text says why."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What all members of a run agree on."""

    fingerprint: bytes
    count: int
    """Values in the flat vector."""
    codec: str
    block: int
    """Values in a block of the codec: spans are cut there."""
    quota: int
    """Samples that a member is given for a round."""
    min_peers: int = 1
    """Members that a round needs."""
    founders: int = 1
    """Members that the first round, which forms the first view, needs at least."""

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

    @property
    def tokens_total(self) -> int:
        return 0 if self.record is None else self.record.tokens_total

    @property
    def ledger(self) -> Ledger:
        return ledger.EMPTY if self.record is None else self.record.ledger

    @property
    def view(self) -> tuple[str, ...]:
        """The members of the next round, in rank order; empty before the formation round."""
        return () if self.record is None else self.record.next_view


def draft(rules: Rules, head: Head, ballot: Ballot, ready: Mapping[str, Ready], state_root: bytes) -> Record:
    """The draft for the members in `ready`: those of the view in its order, then newcomers by peer id."""
    newcomers = sorted(set(ready) - set(head.view))
    order = [peer for peer in head.view if peer in ready] + newcomers
    seats = tuple(Seat(peer=peer, tokens=ready[peer].tokens, used=ready[peer].used) for peer in order)
    spans = plan_spans(rules.count, [1.0] * len(seats), rules.block) if any(seat.tokens for seat in seats) else ()
    return Record(
        round=head.height + 1,
        previous=head.hash,
        fingerprint=rules.fingerprint,
        ballot=ballot,
        seats=seats,
        codec=rules.codec,
        spans=tuple(spans),
        digests=(),
        state_root=state_root,
        tokens_total=head.tokens_total + sum(seat.tokens for seat in seats),
        ledger=ledger.settle(head.ledger, seats, rules.quota),
    )


def check(rules: Rules, head: Head, draft: Record, me: str, ready: Ready | None, state_root: bytes) -> None:
    """Raise BadPlan unless `draft` is one that `me` can take part in: see each line."""
    _require(draft.round == head.height + 1 and draft.previous == head.hash, "it does not extend our head")
    _require(draft.fingerprint == rules.fingerprint, "it belongs to another run")
    _require(draft.codec == rules.codec, f"codec {draft.codec!r} instead of {rules.codec!r}")
    _require(draft.digests == (), "a draft has no digests")
    _require(len(set(draft.members)) == len(draft.members), "a member sits twice")
    _require(len(draft.members) >= rules.quorum(head), "fewer members than min_peers or founders")
    mine = next((seat for seat in draft.seats if seat.peer == me), None)
    _require(mine is not None, "we have no seat in it")
    _require(
        ready is not None and mine is not None and ready.tokens == mine.tokens and ready.used == mine.used,
        "our seat is not what we reported",
    )
    _require(draft.state_root == state_root, "it starts from another state than ours")
    _require(draft.tokens_total == head.tokens_total + sum(draft.weights), "its token count is wrong")
    _check_seats(head, draft.seats)
    _check_spans(rules, draft)
    try:
        settled = ledger.settle(head.ledger, draft.seats, rules.quota)
    except ledger.BadClaim as error:
        raise BadPlan(str(error)) from None
    _require(draft.ledger == settled, "its ledger does not follow from ours")


def _check_seats(head: Head, seats: Sequence[Seat]) -> None:
    rank = {peer: index for index, peer in enumerate(head.view)}
    order = [(rank.get(seat.peer, len(rank)), seat.peer if seat.peer not in rank else "") for seat in seats]
    _require(order == sorted(order), "its seats are out of order")
    _require(all(seat.tokens == 0 for seat in seats if seat.peer not in rank), "a newcomer has weight")


def _check_spans(rules: Rules, draft: Record) -> None:
    if not draft.steps:
        _require(draft.spans == (), "spans without anything to reduce")
        return
    spans = draft.spans
    _require(len(spans) == len(draft.seats) + 1, "not one span a seat")
    _require(spans[0] == 0 and spans[-1] == rules.count, "its spans do not cover the vector")
    _require(all(low <= high for low, high in itertools.pairwise(spans)), "its spans are out of order")
    _require(all(bound % rules.block == 0 for bound in spans[:-1]), "its spans are not cut at blocks")


def _require(condition: bool, why: str) -> None:
    if not condition:
        raise BadPlan(why)
