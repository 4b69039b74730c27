"""Proving a run's history from its records alone. Pure; one record at a time, so memory does not grow with the chain.

Of each record, given those before it, `Audit.extended` proves:

    chain       it names the hash of the one before, was agreed on in a ballot of its round and counts its tokens right
    signatures  each is genuine, by a seat that was there to the end, and there is at least one
    seats       a newcomer has no weight; whoever has tokens names the samples they come from, and what it counts of
                earlier rounds is what it trained on since the fragment was last averaged, or the newest part of it
    mean        whoever has weight is in it, everywhere if it was there to the end, and nobody else is
    samples     nothing is committed that was committed before, and what is committed, free or assigned is [0, cursor)
    ledger      it is the one that `ledger.settle` makes of the last ledger and these seats
    state       a round without weight has moved nothing: the next one starts from the same state
    the rest    codec, fragments of the vector and quota stay what they were, and members would have accepted it
                (`plan.check_draft`)

The ledger speaks of global sample indices; which text an index means, and how often the data set is gone through, is
the data set's matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

from p2p.protocol import ledger
from p2p.protocol.chain import InvalidRecord, Tip, Verify, check_signatures
from p2p.protocol.fragments import earlier_tokens
from p2p.protocol.messages import Ledger, Record, SignedRecord
from p2p.protocol.model import Range
from p2p.protocol.plan import BadPlan, Head, Rules, check_draft


@dataclass(frozen=True)
class Audit:
    """What is proved of a chain up to its tip."""

    tip: Tip
    last: Record | None = None
    committed: tuple[Range, ...] = ()
    """All samples that the chain has committed, as sorted, maximal ranges."""
    quota: int | None = None
    """Samples that every member is given for a round; None before the first record."""
    sizes: tuple[int, ...] = ()
    """Values in each fragment of the vector, 0 for those that no round with weight has averaged yet."""
    seats: int = 0
    signatures: int = 0

    @property
    def ledger(self) -> Ledger:
        return self.last.ledger if self.last is not None else ledger.EMPTY

    @classmethod
    def genesis(cls, fingerprint: bytes) -> Self:
        return cls(Tip.genesis(fingerprint))

    def extended(self, signed: SignedRecord, verify: Verify) -> Audit:
        """The audit after this record. Raises InvalidRecord, whose text names the round and what is wrong with it."""
        record = signed.record
        tip = self.tip.extended(record)
        check_signatures(signed, verify)
        try:
            self._check_seats(signed)
            committed = self._committed(record)
            quota = self._check_ledger(record)
            sizes = self._check_rules(record, quota)
        except (_Wrong, BadPlan) as wrong:
            raise InvalidRecord(f"record of round {record.round}: {wrong}") from None
        return Audit(
            tip=tip,
            last=record,
            committed=committed,
            quota=quota,
            sizes=sizes,
            seats=self.seats + len(record.seats),
            signatures=self.signatures + len(signed.signatures),
        )

    def _check_seats(self, signed: SignedRecord) -> None:
        record = signed.record
        for rank, _ in signed.signatures:
            seat = record.seats[rank]
            _require(seat.present, f"{seat.peer} has signed, but was lost on the way")
        trained = {assignment.peer: assignment.trained for assignment in self.ledger.assigned}
        for seat in record.seats:
            _require(seat.weight == 0 or seat.peer in trained, f"{seat.peer} has weight, but was not in the view")
            _require(seat.tokens == 0 or bool(seat.used), f"{seat.peer} has tokens, but names no sample")
            known = seat.earlier == 0 or seat.earlier in earlier_tokens(trained[seat.peer])
            _require(known, f"{seat.peer} counts {seat.earlier:,} tokens of earlier rounds that it did not train on")
        moved = self.last is None or self.last.steps or self.last.state_root == record.state_root
        _require(moved, "it starts from another state than the round before, which moved nothing")

    def _committed(self, record: Record) -> tuple[Range, ...]:
        """All committed samples, once each; with what is free or assigned they must be exactly [0, cursor)."""
        used = [(seat, span) for seat in record.seats for span in seat.used]
        twice = _overlaps([*self.committed, *(span for _, span in used)])
        if twice:
            names = dict.fromkeys(seat.peer for seat, span in used if ledger.subtract([span], twice) != (span,))
            raise _Wrong(f"samples {shown(twice)} are committed a second time, by {', '.join(names)}")
        committed = ledger.merged((*self.committed, *(span for _, span in used)))
        cursor, outstanding = record.ledger.cursor, (*record.ledger.free, *assigned_samples(record.ledger))
        _require(not _overlaps(outstanding), f"samples {shown(_overlaps(outstanding))} are given out twice")
        again = _overlaps((*committed, *outstanding))
        _require(not again, f"samples {shown(again)} are given out again after they were committed")
        lost = ledger.subtract([(0, cursor)], (*committed, *outstanding))
        _require(not lost, f"samples {shown(lost)} are neither committed nor free nor assigned")
        beyond = ledger.subtract((*committed, *outstanding), [(0, cursor)])
        _require(not beyond, f"samples {shown(beyond)} are spoken for, beyond the cursor {cursor}")
        return committed

    def _check_ledger(self, record: Record) -> int:
        """That the ledger follows from the last one; the quota that it does so with."""
        sizes = {ledger.size(assignment.ranges) for assignment in record.ledger.assigned}
        quota = self.quota if self.quota is not None else next(iter(sizes), 0)
        _require(sizes == {quota}, f"members are given {_numbers(sizes)} samples, not {quota} each")
        try:
            settled = ledger.settle(self.ledger, record.seats, quota, record.fragments)
        except ledger.BadClaim as error:
            raise _Wrong(str(error)) from None
        if record.ledger != settled:
            raise _Wrong(_difference(record.ledger, settled))
        return quota

    def _check_rules(self, record: Record, quota: int) -> tuple[int, ...]:
        """What members check of a plan, as far as the records tell the rules; returns the sizes of the fragments."""
        sizes = list(self.sizes or [0] * record.fragments)
        if record.steps and record.fragments == len(sizes) and not sizes[record.fragment]:
            sizes[record.fragment] = record.segments[-1].stop
        codec = record.codec if self.last is None else self.last.codec
        *cuts, count = accumulate(sizes)
        rules = Rules(self.tip.fingerprint, count, codec, block=1, quota=quota, cuts=tuple(cuts))
        check_draft(rules, Head(self.tip.fingerprint, self.last), record)
        return tuple(sizes)


class _Wrong(ValueError):
    """What is wrong with a record."""


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise _Wrong(what)


def assigned_samples(state: Ledger) -> tuple[Range, ...]:
    """What the members of the next view may train on, all of it."""
    return tuple(span for assignment in state.assigned for span in assignment.ranges)


def _overlaps(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Samples that are in more than one of these ranges."""
    twice: list[Range] = []
    end = 0
    for start, stop in sorted(ranges):
        if start < min(end, stop):
            twice.append((start, min(stop, end)))
        end = max(end, stop)
    return ledger.merged(twice)


def _difference(found: Ledger, follows: Ledger) -> str:
    """Where a ledger first departs from the one that follows from the last round."""
    views = [[assignment.peer for assignment in state.assigned] for state in (found, follows)]
    if views[0] != views[1]:
        return f"its next view is {', '.join(views[0])} where {', '.join(views[1])} follows"
    for mine, theirs in zip(found.assigned, follows.assigned, strict=True):
        if mine.ranges != theirs.ranges:
            return f"{mine.peer} is assigned {shown(mine.ranges)} where {shown(theirs.ranges)} follows"
        if mine.trained != theirs.trained:
            return f"{mine.peer} is said to have trained on {mine.trained} tokens where {theirs.trained} follows"
    if found.free != follows.free:
        return f"{shown(found.free)} is free where {shown(follows.free)} follows"
    return f"its cursor is {found.cursor} where {follows.cursor} follows"


def _numbers(values: set[int]) -> str:
    return " and ".join(str(value) for value in sorted(values)) or "no"


def shown(ranges: tuple[Range, ...], most: int = 4) -> str:
    """Ranges for people, the first `most` of them."""
    text = ", ".join(f"[{start}, {stop})" for start, stop in ranges[:most]) or "nothing"
    return text if len(ranges) <= most else f"{text} and {len(ranges) - most} ranges more"
