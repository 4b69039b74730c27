"""Who holds a reduce up, and whom the others do without."""

from __future__ import annotations

from p2p.protocol.messages import Plan
from p2p.protocol.stall import MOST_STALL_SECONDS, PARTED_SECONDS, STALL_SECONDS, StallWatch, Verdict
from tests.p2p.protocol.test_coordinator import A, B, C, Scene, ready


def watched(**waits: tuple[str, ...]) -> tuple[Scene, Plan, StallWatch]:
    """A reduce of A, B and C in which a, b and c wait for these."""
    scene = Scene()
    plan = scene.plan()
    for name, peer in (("a", A), ("b", B), ("c", C)):
        if name in waits:
            scene.post(peer, phase="reducing", ready=ready(peer), promised=plan.ballot, waiting_on=waits[name])
    watch = StallWatch(scene.board)
    watch.begin(plan, scene.now)
    watch.judge([A, B, C], scene.now)
    return scene, plan, watch


def after(scene: Scene, watch: StallWatch, seconds: float) -> Verdict | None:
    scene.now += seconds
    for peer in (B, C):
        scene.board.liveness.heard(peer, (), scene.now)
    return watch.judge([A, B, C], scene.now)


def test_a_reduce_that_moves_is_left_alone() -> None:
    scene, plan, watch = watched(a=(B,), b=(), c=(B,))
    for turn in range(1, 4):
        for peer in (A, B, C):
            scene.post(peer, phase="reducing", ready=ready(peer), promised=plan.ballot, moved=turn * 1000)
        assert after(scene, watch, STALL_SECONDS - 1) is None


def test_a_member_that_never_took_the_plan_is_the_first_to_be_blamed() -> None:
    scene, _, watch = watched(a=(C,), c=())
    verdict = after(scene, watch, STALL_SECONDS + 1)
    assert verdict is not None
    assert verdict.blamed == B


def test_whom_several_wait_for_is_blamed_but_not_who_waits_for_another() -> None:
    """B waits for C, so A and C that wait for B wait for C in truth."""
    scene, _, watch = watched(a=(B, C), b=(C,), c=())
    verdict = after(scene, watch, STALL_SECONDS + 1)
    assert verdict is not None
    assert verdict.blamed == C


def test_two_that_wait_for_each_other_own_nothing_in_the_next_attempt_and_are_not_blamed() -> None:
    scene, plan, watch = watched(a=(B,), b=(A,), c=(A, B))
    verdict = after(scene, watch, STALL_SECONDS + 1)
    assert verdict is not None
    assert verdict.blamed == ""
    assert watch.reach_all((A, B, C), scene.now) == [C]
    watch.begin(plan, scene.now)
    watch.judge([A, B, C], scene.now)
    again = after(scene, watch, STALL_SECONDS + 1)
    assert again is not None
    assert again.blamed, "it was not their link alone"


def test_two_that_say_they_miss_each_other_are_told_apart_soon() -> None:
    scene, plan, watch = watched(a=(), b=(C,), c=(B,))
    scene.post(B, phase="reducing", ready=ready(B), promised=plan.ballot, waiting_on=(C,), silent=((C, 4.0),))
    verdict = after(scene, watch, PARTED_SECONDS + 0.1)
    assert verdict is not None
    assert "do not reach each other" in verdict.reason
    assert watch.reach_all((A, B, C), scene.now) == [A]
    assert watch.reach_all((B, C), scene.now) == [B, C], "two alone have no better choice"
    watch.begin(plan, scene.now)
    watch.judge([A, B, C], scene.now)
    assert after(scene, watch, PARTED_SECONDS + 0.1) is None, "the same pair is no news"


def test_where_doing_without_somebody_did_not_help_more_time_is_given_up_to_a_bound() -> None:
    scene, plan, watch = watched(a=(B,), b=(), c=(B,))
    for limit in (STALL_SECONDS, 2 * STALL_SECONDS, MOST_STALL_SECONDS, MOST_STALL_SECONDS):
        watch.begin(plan, scene.now)
        watch.judge([A, B, C], scene.now)
        assert after(scene, watch, limit - 1) is None
        assert after(scene, watch, 2) is not None


def test_links_known_to_be_slow_are_given_the_time_that_a_piece_to_everybody_takes() -> None:
    scene, plan, watch = watched(a=(B,), b=(), c=(B,))
    all_at_once = 3 * plan.draft.piece * 4
    reducing = {"phase": "reducing", "promised": plan.ballot, "waiting_on": (B,)}
    scene.post(C, ready=ready(C), rates=(int(all_at_once / 40), 0), **reducing)
    assert after(scene, watch, STALL_SECONDS + 1) is None
    assert after(scene, watch, 26) is not None
    scene.post(C, ready=ready(C), rates=(1, 1), **reducing)
    watch.begin(plan, scene.now)
    watch.judge([A, B, C], scene.now)
    assert after(scene, watch, MOST_STALL_SECONDS + 1) is not None, "nobody holds the round up with what it says"
