"""A member takes part in exactly the plans that follow from what it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from p2p.protocol import bitmap, ledger
from p2p.protocol.messages import Plan, Ready, Route, Seat, Segment
from p2p.protocol.pieces import FINER, PIECE_SIZE
from p2p.protocol.plan import BadPlan, Head, Rules, check, fresh
from p2p.protocol.shares import Rates
from tests.sim.virtual_swarm import RULES, peer_name

A, B, C = (peer_name(index) for index in range(3))
NOTHING = Ready(round=0, tokens=0, used=())
ROOT = b"r" * 32


def formed(rules: Rules = RULES) -> Head:
    """The head after a formation round of A and B."""
    begin = Head(rules.fingerprint)
    plan = fresh(rules, begin, begin.ballot(0, 0), {A: NOTHING, B: NOTHING}, ROOT, [A, B])
    return Head(rules.fingerprint, plan.draft)


def ready(head: Head, *peers: str) -> dict[str, Ready]:
    assignments = {item.peer: item.ranges for item in head.ledger.assigned}
    return {
        peer: Ready(round=1, tokens=80 if peer in assignments else 0, used=assignments.get(peer, ())) for peer in peers
    }


def first(head: Head, *peers: str, owners: Sequence[str] | None = None) -> Plan:
    return fresh(RULES, head, head.ballot(0, 0), ready(head, *peers), ROOT, owners or peers)


def test_the_formation_round_hands_out_samples_and_moves_nothing() -> None:
    record = formed().record
    assert record is not None
    assert (record.round, record.steps, record.segments, record.tokens_total) == (0, False, (), 0)
    assert [item.ranges for item in record.ledger.assigned] == [((0, 8),), ((8, 16),)]


def test_newcomers_sit_behind_the_view_with_weight_zero_and_are_in_the_next_view() -> None:
    head = formed()
    plan = first(head, C, B, A)
    record = plan.draft
    assert record.members == record.voters == (A, B, C)
    assert record.weights == (80, 80, 0)
    assert record.next_view == (A, B, C)
    assert record.tokens_total == 160
    assert [bitmap.unpack(segment.contributors) for segment in record.segments] == [(0, 1)] * 3
    assert [route.owner for route in plan.routes] == [0, 1, 2]
    for peer in (A, B, C):
        check(RULES, head, plan, peer, ready(head, A, B, C)[peer], ROOT)


@pytest.mark.parametrize(("slow", "times"), [(100, 1), (10, FINER)])
def test_with_a_slow_member_pieces_are_finer(slow: float, times: int) -> None:
    rules = replace(RULES, count=1 << 24, pieces=PIECE_SIZE)
    head = formed(rules)
    rates = {A: Rates(100, 100), B: Rates(100, 100), C: Rates(slow, slow)}
    plan = fresh(rules, head, head.ballot(0, 0), ready(head, A, B, C), ROOT, [A, B, C], rates)
    assert plan.draft.piece == pytest.approx(rules.count / 3 / (times * PIECE_SIZE.per_span), rel=0.01)
    check(rules, head, plan, A, ready(head, A)[A], ROOT)


def test_only_those_who_reach_everybody_own_a_segment() -> None:
    head = formed()
    plan = first(head, A, B, C, owners=[C])
    assert [(segment.stop, route.owner) for segment, route in zip(plan.draft.segments, plan.routes, strict=True)] == [
        (RULES.count, 2)
    ]
    check(RULES, head, plan, A, ready(head, A)[A], ROOT)


def change(plan: Plan, **fields: Any) -> Plan:
    return plan.model_copy(update={"draft": plan.draft.model_copy(update=fields)})


def segment(stop: int, contributors: bytes = b"\3") -> Segment:
    return Segment(stop=stop, contributors=contributors, digest=b"")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"round": 2}, "extend our head"),
        ({"previous": b"p" * 32}, "extend our head"),
        ({"fingerprint": b"x" * 32}, "another run"),
        ({"codec": "fp32"}, "codec"),
        ({"ballot": formed().ballot(7, 0)}, "ballots"),
        ({"state_root": b"s" * 32}, "another state"),
        ({"tokens_total": 1}, "token count"),
        ({"piece": 0}, "whole blocks"),
        ({"piece": 17}, "whole blocks"),
        ({"segments": (segment(6000), segment(9000))}, "cover"),
        ({"segments": ()}, "cover"),
        ({"segments": (segment(1000), segment(12_000))}, "at pieces"),
        ({"segments": (segment(1504), segment(1504), segment(12_000))}, "out of order"),
        ({"segments": (segment(12_000, b"\7"),)}, "without a seat"),
        ({"segments": (segment(12_000, b"\1"),)}, "misses a contributor"),
        ({"segments": (segment(12_000),)}, "one route"),
    ],
)
def test_a_plan_that_does_not_follow_is_refused(fields: dict[str, Any], why: str) -> None:
    head = formed()
    with pytest.raises(BadPlan, match=why):
        check(RULES, head, change(first(head, A, B), **fields), A, ready(head, A)[A], ROOT)


def test_a_segment_is_owned_by_somebody_present() -> None:
    head = formed()
    plan = first(head, A, B)
    routes = (plan.routes[0], Route(owner=2, done=False))
    with pytest.raises(BadPlan, match="nobody present"):
        check(RULES, head, plan.model_copy(update={"routes": routes}), A, ready(head, A)[A], ROOT)


def test_a_new_draft_has_no_digests_but_an_adopted_record_has() -> None:
    head = formed()
    plan = first(head, A, B)
    full = plan.model_copy(update={"draft": plan.draft.with_digests((b"d" * 32,) * 2)})
    with pytest.raises(BadPlan, match="no digests"):
        check(RULES, head, full, A, ready(head, A)[A], ROOT)
    later = full.model_copy(update={"ballot": formed().ballot(1, 0)})
    check(RULES, head, later, A, ready(head, A)[A], ROOT)


def test_seats_are_checked() -> None:
    head = formed()
    plan = first(head, A, B)
    mine = ready(head, A)[A]
    a, b = plan.draft.seats
    wrong = {
        "sits twice": (a, a),
        "no seat": (b,),
        "we have no seat": (a.model_copy(update={"present": False}), b),
        "not what we reported": (a.model_copy(update={"tokens": 7}), b),
        "out of order": (b, a),
        "newcomer has weight": (a, b, Seat(peer=C, tokens=5, used=())),
        "not assigned": (a, b.model_copy(update={"used": a.used})),
        "absent seat without weight": (a, b, Seat(peer=C, tokens=0, used=(), present=False)),
    }
    for why, seats in wrong.items():
        total = sum(seat.tokens for seat in seats)
        heavy = bitmap.pack((i for i, seat in enumerate(seats) if seat.tokens), len(seats))
        bad_ledger = why in ("not assigned", "sits twice", "newcomer has weight")
        settled = plan.draft.ledger if bad_ledger else ledger.settle(head.ledger, seats, RULES.quota)
        update = {"seats": seats, "tokens_total": total, "ledger": settled, "segments": (segment(12_000, heavy),)}
        with pytest.raises(BadPlan, match=why):
            check(RULES, head, change(plan, **update), A, mine, ROOT)


def test_an_absent_seat_contributed_to_something_and_is_not_in_the_next_view() -> None:
    head = formed()
    plan = first(head, A, B)
    seats = (plan.draft.seats[0], plan.draft.seats[1].model_copy(update={"present": False}))
    settled = ledger.settle(head.ledger, seats, RULES.quota)
    rest = segment(12_000, b"\1")
    lost = change(plan, seats=seats, ledger=settled, piece=16, segments=(segment(6016), rest))
    lost = lost.model_copy(update={"routes": (Route(owner=0, done=True), Route(owner=0, done=False))})
    check(RULES, head, lost, A, ready(head, A)[A], ROOT)
    assert lost.draft.next_view == (A,)
    assert lost.draft.voters == (A,)
    nothing = change(lost, segments=(segment(6016, b"\1"), rest))
    with pytest.raises(BadPlan, match="contributed nothing"):
        check(RULES, head, nothing, A, ready(head, A)[A], ROOT)


def test_the_ledger_must_follow() -> None:
    head = formed()
    with pytest.raises(BadPlan, match="ledger"):
        check(RULES, head, change(first(head, A, B), ledger=head.ledger), A, ready(head, A)[A], ROOT)


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


def test_a_plan_without_weight_has_nothing_to_reduce() -> None:
    head = formed()
    nobody = fresh(RULES, head, head.ballot(0, 0), {C: NOTHING}, ROOT, [C])
    check(RULES, head, nobody, C, NOTHING, ROOT)
    with pytest.raises(BadPlan, match="anything to reduce"):
        check(RULES, head, change(nobody, segments=(segment(12_000),)), C, NOTHING, ROOT)


def test_a_member_that_is_not_ready_takes_no_seat() -> None:
    head = formed()
    with pytest.raises(BadPlan, match="not what we reported"):
        check(RULES, head, first(head, A, B), A, None, ROOT)
