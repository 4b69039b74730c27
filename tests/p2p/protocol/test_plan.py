"""A member takes part in exactly the drafts that follow from what it knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from p2p.protocol.messages import Ballot, Ready, Record, Seat
from p2p.protocol.plan import BadPlan, Head, Rules, check, draft
from tests.sim.virtual_swarm import RULES, peer_name

A, B, C = (peer_name(index) for index in range(3))
NOTHING = Ready(round=0, tokens=0, used=())
ROOT = b"r" * 32


def formed(rules: Rules = RULES) -> Head:
    """The head after a formation round of A and B."""
    ballot = Ballot(round=0, attempt=0, rank=0)
    return Head(rules.fingerprint, draft(rules, Head(rules.fingerprint), ballot, {A: NOTHING, B: NOTHING}, ROOT))


def ready(head: Head, *peers: str) -> dict[str, Ready]:
    assignments = {item.peer: item.ranges for item in head.ledger.assigned}
    return {
        peer: Ready(round=1, tokens=80 if peer in assignments else 0, used=assignments.get(peer, ())) for peer in peers
    }


def first(head: Head, *peers: str) -> Record:
    return draft(RULES, head, Ballot(round=1, attempt=0, rank=0), ready(head, *peers), ROOT)


def test_the_formation_round_hands_out_samples_and_moves_nothing() -> None:
    record = formed().record
    assert record is not None
    assert (record.round, record.steps, record.spans, record.tokens_total) == (0, False, (), 0)
    assert [item.ranges for item in record.ledger.assigned] == [((0, 8),), ((8, 16),)]


def test_newcomers_sit_behind_the_view_with_weight_zero_and_are_in_the_next_view() -> None:
    head = formed()
    record = first(head, C, B, A)
    assert record.members == (A, B, C)
    assert record.weights == (80, 80, 0)
    assert record.next_view == (A, B, C)
    assert record.tokens_total == 160
    assert (record.spans[0], record.spans[-1], len(record.spans)) == (0, RULES.count, 4)
    for peer in (A, B, C):
        check(RULES, head, record, peer, ready(head, A, B, C)[peer], ROOT)


def change(record: Record, **fields: Any) -> Record:
    return record.model_copy(update=fields)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"round": 2}, "extend our head"),
        ({"previous": b"p" * 32}, "extend our head"),
        ({"fingerprint": b"x" * 32}, "another run"),
        ({"codec": "fp32"}, "codec"),
        ({"digests": (b"d" * 32,)}, "digests"),
        ({"state_root": b"s" * 32}, "another state"),
        ({"tokens_total": 1}, "token count"),
        ({"spans": (0, 1024, 9000)}, "cover"),
        ({"spans": (0, RULES.count)}, "one span a seat"),
        ({"spans": (0, 1000, RULES.count)}, "blocks"),
        ({"spans": (0, 20480, RULES.count)}, "out of order"),
    ],
)
def test_a_draft_that_does_not_follow_is_refused(fields: dict[str, Any], why: str) -> None:
    head = formed()
    record = first(head, A, B)
    with pytest.raises(BadPlan, match=why):
        check(RULES, head, change(record, **fields), A, ready(head, A)[A], ROOT)


def test_seats_are_checked() -> None:
    head = formed()
    record = first(head, A, B)
    mine = ready(head, A)[A]
    a, b = record.seats
    wrong = {
        "sits twice": (a, a),
        "no seat": (b,),
        "not what we reported": (a.model_copy(update={"tokens": 7}), b),
        "out of order": (b, a),
        "newcomer has weight": (a, b, Seat(peer=C, tokens=5, used=())),
        "not assigned": (a, b.model_copy(update={"used": a.used})),
    }
    for why, seats in wrong.items():
        total = sum(seat.tokens for seat in seats)
        with pytest.raises(BadPlan, match=why):
            check(RULES, head, change(record, seats=seats, tokens_total=total), A, mine, ROOT)


def test_the_ledger_must_follow() -> None:
    head = formed()
    record = first(head, A, B)
    with pytest.raises(BadPlan, match="ledger"):
        check(RULES, head, change(record, ledger=head.ledger), A, ready(head, A)[A], ROOT)


def test_too_few_members_for_the_run() -> None:
    head = formed()
    with pytest.raises(BadPlan, match="min_peers"):
        check(replace(RULES, min_peers=3), head, first(head, A, B), A, ready(head, A)[A], ROOT)


def test_too_few_founders_for_the_run() -> None:
    rules, begin = replace(RULES, founders=3), formed()
    assert rules.quorum(begin) == 1
    empty = replace(begin, record=None)
    assert rules.quorum(empty) == 3
    assert replace(rules, min_peers=4).quorum(empty) == 4


def test_a_formation_draft_with_spans_is_refused() -> None:
    head = formed()
    nobody = draft(RULES, head, Ballot(round=1, attempt=0, rank=0), {C: NOTHING}, ROOT)
    check(RULES, head, nobody, C, NOTHING, ROOT)
    with pytest.raises(BadPlan, match="anything to reduce"):
        check(RULES, head, change(nobody, spans=(0, RULES.count)), C, NOTHING, ROOT)


def test_a_member_that_is_not_ready_takes_no_seat() -> None:
    head = formed()
    with pytest.raises(BadPlan, match="not what we reported"):
        check(RULES, head, first(head, A, B), A, None, ROOT)
