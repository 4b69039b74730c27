"""What a node reads off the board: who is here, who is ready, who drives the round."""

from __future__ import annotations

import pytest

from p2p.protocol.board import ATTEMPTS_AHEAD, FROZEN_SECONDS
from p2p.protocol.messages import Ready
from p2p.protocol.plan import MAX_TOKENS
from tests.p2p.protocol.test_coordinator import HEAD, ROOT, A, B, C, Scene, ready
from tests.sim.virtual_swarm import peer_name


def test_an_older_status_does_not_replace_a_newer_one() -> None:
    scene = Scene()
    newest = scene.board.statuses[B]
    assert not scene.board.post(B, newest.model_copy(update={"inner_step": 9}), scene.now)
    assert scene.board.statuses[B] == newest


def test_here_are_the_live_who_hold_the_state_of_the_head() -> None:
    scene = Scene()
    assert scene.board.here(scene.now) == [A, B, C]
    scene.post(B, phase="syncing")
    scene.post(C, head=b"o" * 32)
    assert scene.board.here(scene.now) == [A]
    assert scene.board.expected(scene.now) == [A, C], "who fetches state is not waited for"
    scene.post(C, phase="leaving")
    assert scene.board.expected(scene.now) == [A]


def test_the_absent_are_missed_until_somebody_holds_state() -> None:
    scene = Scene()
    assert scene.board.absent(scene.now) == set(), "the run goes on"
    scene.post(B, state_root=b"", phase="syncing")
    scene.post(C, phase="leaving")
    assert scene.board.absent(scene.now) == {C}
    scene.board.liveness.linked(C, scene.now)
    scene.post(C, state_root=b"", phase="syncing")
    assert scene.board.absent(scene.now) == set(), "all are back"


def test_who_may_be_on_the_way_to_our_head_is_possible() -> None:
    scene = Scene()
    scene.post(B, head=b"o" * 32, height=-1)
    assert scene.board.possible(scene.now) == [A, B, C], "its status may be old"
    scene.post(B, head=b"o" * 32, height=0)
    assert scene.board.possible(scene.now) == [A, C], "another lineage"
    scene.post(C, head=b"o" * 32, height=1)
    assert scene.board.possible(scene.now) == [A], "ahead of us"


def test_a_coordinator_that_misses_a_live_member_yields_to_one_that_reaches_all() -> None:
    scene = Scene()
    scene.post(C, silent=((A, 4.0),))
    assert scene.board.parted(A, (B, C), scene.now)
    assert scene.board.parted(C, (A, B), scene.now)
    assert not scene.board.parted(B, (A, C), scene.now)
    assert scene.board.coordinator(scene.now) == B
    scene.post(C, silent=(), phase="leaving")
    assert scene.board.coordinator(scene.now) == A


def test_training_that_stands_still_far_longer_than_ever_before_is_frozen() -> None:
    scene = Scene()
    for step in range(3):
        scene.now += 2
        scene.post(C, inner_step=step)
    assert not scene.board.frozen(C, scene.now + FROZEN_SECONDS)
    assert scene.board.frozen(C, scene.now + FROZEN_SECONDS + 1)
    assert not scene.board.frozen(B, scene.now + 100), "it never moved: it may be slow"
    scene.post(C, phase="ready")
    assert not scene.board.frozen(C, scene.now + FROZEN_SECONDS + 1)


def test_ready_are_those_with_the_state_that_most_hold() -> None:
    scene = Scene()
    scene.all_ready()
    assert set(scene.board.ready(scene.now)) == {A, B, C}
    scene.post(A, phase="ready", ready=ready(A), state_root=b"x" * 32)
    assert set(scene.board.ready(scene.now)) == {B, C}
    scene.post(B, phase="ready", ready=ready(B), state_root=b"y" * 32)
    assert set(scene.board.ready(scene.now)) == {A}, "a tie goes to ours"


def test_ready_for_another_round_or_without_a_root_does_not_count() -> None:
    scene = Scene()
    scene.post(B, phase="ready", ready=ready(B).model_copy(update={"round": 0}))
    scene.post(C, phase="ready", ready=ready(C), state_root=b"")
    assert scene.board.ready(scene.now) == {}
    assert scene.board.state_root(()) == b""
    assert scene.board.state_root((B,)) == ROOT


def test_the_first_of_the_view_who_is_here_drives_the_round() -> None:
    scene = Scene()
    assert scene.board.coordinator(scene.now) == A
    scene.post(A, phase="leaving")
    assert scene.board.coordinator(scene.now) == B


def test_whoever_holds_the_highest_promise_goes_on_driving() -> None:
    scene = Scene()
    scene.post(C, promised=HEAD.ballot(2, 1))
    assert scene.board.coordinator(scene.now) == B
    scene.post(B, phase="leaving")
    assert scene.board.coordinator(scene.now) == A
    scene.post(C, promised=HEAD.ballot(9, 2).model_copy(update={"round": 0}))
    assert scene.board.highest_promise(scene.now) is None


def test_without_anybody_of_the_view_the_smallest_ready_peer_drives() -> None:
    scene = Scene()
    newcomers = ["12D3KooW" + letter * 44 for letter in "zy"]
    for peer in (A, B, C):
        scene.post(peer, phase="leaving")
    for peer in newcomers:
        scene.board.liveness.linked(peer, scene.now)
        scene.post(peer, phase="ready", ready=ready(A).model_copy(update={"tokens": 0, "used": ()}))
    assert scene.board.coordinator(scene.now) == min(newcomers)


def test_no_two_nodes_share_a_rank() -> None:
    board = Scene().board
    strangers = ["12D3KooW" + letter * 44 for letter in "zyx"]
    ranks = [board.rank(peer) for peer in (*HEAD.view, *strangers)]
    assert ranks[:3] == [0, 1, 2]
    assert len(set(ranks)) == 6


def test_what_a_peer_said_holds_over_a_new_link_until_it_speaks_again() -> None:
    scene = Scene()
    scene.board.linked(B, scene.now)
    assert scene.board.here(scene.now) == [A, B, C], "a link that is made anew is no death"
    again = scene.board.statuses[B].model_copy(update={"sequence": 1, "phase": "syncing"})
    assert scene.board.post(B, again, scene.now), "a restarted peer counts from the beginning"
    assert scene.board.here(scene.now) == [A, C]


@pytest.mark.parametrize(
    ("peer", "report"),
    [
        (B, ready(B).model_copy(update={"used": ready(C).used})),
        (B, ready(B).model_copy(update={"used": ready(B).used * 2})),
        (B, ready(B).model_copy(update={"tokens": MAX_TOKENS + 1})),
        (peer_name(7), ready(B).model_copy(update={"used": ()})),
    ],
)
def test_a_report_that_no_seat_can_be_made_of_is_none(peer: str, report: Ready) -> None:
    scene = Scene()
    scene.board.liveness.linked(peer, scene.now)
    scene.post(peer, ready=report)
    scene.post(C, ready=ready(C))
    assert scene.board.objection(peer, scene.board.statuses[peer])
    assert scene.board.ready(scene.now) == {C: ready(C)}
    scene.post(peer, ready=report, head=b"o" * 32)
    assert scene.board.objection(peer, scene.board.statuses[peer]) == "", "of another head it may be right"


def test_claims_of_attempts_that_no_swarm_gets_to_are_no_promises() -> None:
    scene = Scene()
    scene.post(B, promised=HEAD.ballot(1 << 62, 1))
    assert scene.board.highest_promise(scene.now) is None
    assert scene.board.coordinator(scene.now) == A
    scene.post(A, promised=HEAD.ballot(ATTEMPTS_AHEAD, 0))
    high = HEAD.ballot(2 * ATTEMPTS_AHEAD, 1)
    scene.post(B, promised=high)
    assert scene.board.highest_promise(scene.now) == high
