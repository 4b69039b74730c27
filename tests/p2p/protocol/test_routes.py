"""A plan laid out piece by piece."""

from __future__ import annotations

from p2p.protocol import bitmap
from p2p.protocol.messages import Plan, Route, Segment
from p2p.protocol.routes import Routes
from tests.p2p.protocol.drafts import plan_of
from tests.p2p.protocol.records import peer


def mended() -> Plan:
    """Members 0, 1, 2 (weightless), 3; 3 owned [60, 80), of which 0 has [60, 70) done and 1 is to do the rest."""
    plan = plan_of([5, 6, 0, 7], 80, 10, spans=[0, 20, 40, 60, 80], piece=10)
    all_three, two = bitmap.pack((0, 1, 3), 4), bitmap.pack((0, 1), 4)
    segments = (
        *plan.draft.segments[:3],
        Segment(stop=70, contributors=all_three, digest=b""),
        Segment(stop=80, contributors=two, digest=b""),
    )
    routes = (*plan.routes[:3], Route(owner=0, done=True), Route(owner=1, done=False))
    return plan.model_copy(update={"draft": plan.draft.model_copy(update={"segments": segments}), "routes": routes})


def test_every_piece_has_its_owner_contributors_and_weights() -> None:
    routes = Routes(mended(), 80)
    assert [routes.of(piece).owner for piece in range(8)] == [0, 0, 1, 1, 2, 2, 0, 1]
    assert routes.pieces(0) == [0, 1, 6]
    assert routes.pieces(3) == []
    assert [routes.place_of[piece] for piece in (0, 1, 6)] == [0, 1, 2]
    assert routes.of(6).done
    assert routes.of(7).weights == (5.0, 6.0)
    assert routes.names(6) == (peer(0), peer(1), peer(3))


def test_codes_are_wanted_where_we_contribute_and_nothing_is_done_yet() -> None:
    routes = Routes(mended(), 80)
    assert routes.to_contribute(0) == [2, 4, 0, 3, 5, 1, 7]
    assert routes.to_contribute(2) == [], "a newcomer contributes nothing"
    assert 7 not in routes.to_contribute(3)
    assert 6 not in routes.to_contribute(1)


def test_every_member_starts_with_another_owner() -> None:
    plan = plan_of([1, 1, 1], 300, 10, piece=25 * 4)
    routes = Routes(plan, 300)
    assert [routes.of(routes.to_contribute(rank)[0]).owner for rank in range(3)] == [1, 2, 0]


def test_who_owns_clearly_less_than_the_others_has_a_light_share() -> None:
    plan = plan_of([1, 1, 1], 300, 10, spans=[0, 10, 150, 300], piece=10)
    routes = Routes(plan, 300)
    assert [routes.is_light(rank) for rank in range(3)] == [True, False, False]
    routes = Routes(plan_of([1, 1, 1], 320, 10, spans=[0, 100, 210, 320], piece=10), 320)
    assert not any(routes.is_light(rank) for rank in range(3)), "one piece fewer is nothing"
    assert [Routes(mended(), 80).is_light(rank) for rank in range(4)] == [False, False, True, True]
