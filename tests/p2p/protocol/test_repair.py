"""What a further attempt keeps. tests/p2p/protocol/test_butterfly.py plays it out."""

from __future__ import annotations

from p2p.protocol import bitmap
from p2p.protocol.ballot import Ballot
from p2p.protocol.messages import Plan, Promise
from p2p.protocol.plan import Head, Rules
from p2p.protocol.repair import repaired
from tests.p2p.protocol.drafts import plan_of
from tests.p2p.protocol.records import FINGERPRINT, peer

RULES = Rules(FINGERPRINT, 120, "int8", 1, quota=0)
BALLOT = Ballot(round=3, attempt=1, rank=0, lineage=0)


def report(plan: Plan | None, means: tuple[int, ...] = (), parts: tuple[tuple[int, ...], ...] = ()) -> Promise:
    return Promise(ballot=BALLOT, ready=None, plan=plan, means=means, parts=parts, vote=None, voted=None)


def mended(plan: Plan, promises: dict[str, Promise], owners: list[str] | None = None) -> Plan | None:
    return repaired(RULES, Head(FINGERPRINT), BALLOT, plan, promises, owners or list(promises))


def shape(plan: Plan | None) -> list[tuple[int, tuple[int, ...], int, bool]]:
    """(stop, contributors, owner, done) of each segment."""
    assert plan is not None
    return [
        (segment.stop, bitmap.unpack(segment.contributors), route.owner, route.done)
        for segment, route in zip(plan.draft.segments, plan.routes, strict=True)
    ]


def test_a_member_without_weight_that_owned_a_finished_segment_costs_nothing() -> None:
    plan = plan_of([1, 1, 0], 120, 1, piece=10)
    means = (4, 4, 4)
    again = mended(plan, {peer(0): report(plan, means, ((4, 4), (), ())), peer(1): report(plan, means, ((), (4, 4)))})
    assert shape(again) == [(40, (0, 1), 0, False), (80, (0, 1), 1, False), (120, (0, 1), 0, True)]
    assert again is not None
    assert again.draft.members == (peer(0), peer(1)), "a seat that left nothing behind is gone"


def test_what_the_dead_owned_is_shared_out_from_where_its_means_end() -> None:
    plan = plan_of([1, 1, 1], 120, 1, piece=10)
    full = (4, 4, 4)
    promises = {
        peer(0): report(plan, (0, 0, 1), (full, (), ())),
        peer(1): report(plan, (0, 0, 2), ((), (4, 4, 0), ())),
    }
    assert shape(mended(plan, promises)) == [
        (40, (0, 1, 2), 0, False),
        (80, (0, 1), 1, False),
        (100, (0, 1, 2), 1, True),
        (110, (0, 1), 0, False),
        (120, (0, 1), 1, False),
    ]


def test_an_owner_that_does_not_reach_all_hands_its_segment_on_with_all_contributors() -> None:
    plan = plan_of([1, 1, 1], 120, 1, piece=10)
    parts = tuple((4, 4, 4) for _ in range(3))
    promises = {peer(i): report(plan, (0, 0, 0), parts) for i in range(3)}
    again = mended(plan, promises, [peer(2)])
    assert shape(again) == [(stop, (0, 1, 2), 2, False) for stop in (40, 80, 120)]


def test_progress_of_another_plan_counts_for_nothing() -> None:
    plan = plan_of([1, 1, 1], 120, 1, piece=10)
    other = plan.model_copy(update={"ballot": Ballot(round=3, attempt=0, rank=7, lineage=0)})
    promises = {peer(0): report(other, (4, 4, 4), ((4, 4, 4), (), ())), peer(1): report(None)}
    again = mended(plan, promises)
    assert again is not None
    assert all(contributors == (0, 1) for _, contributors, _, _ in shape(again))
    assert again.draft.members == (peer(0), peer(1))


def test_claims_beyond_what_there_is_are_cut() -> None:
    plan = plan_of([1, 1, 1], 120, 1, piece=10)
    promises = {peer(0): report(plan, (99,), ((99, 99, 99),)), peer(1): report(plan, (1, 2, 99), ((), ()))}
    again = mended(plan, promises)
    assert again is not None
    assert again.draft.segments[-1].stop == 120
    stops = [segment.stop for segment in again.draft.segments]
    assert stops == sorted(set(stops))


def test_without_anybody_who_trained_there_is_nothing_to_repair() -> None:
    plan = plan_of([1, 0], 120, 1, piece=10)
    assert mended(plan, {peer(1): report(plan)}) is None
    alone = Rules(FINGERPRINT, 120, "int8", 1, quota=0, min_peers=2)
    both = plan_of([1, 1], 120, 1, piece=10)
    assert repaired(alone, Head(FINGERPRINT), BALLOT, both, {peer(0): report(both)}, [peer(0)]) is None
