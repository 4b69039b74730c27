"""Who is further than we are, and what we do not do meanwhile."""

from __future__ import annotations

from p2p.protocol.lead import ASK_SECONDS, MEET_SECONDS, Lead
from p2p.protocol.liveness import tag
from tests.p2p.protocol.test_coordinator import HEAD, A, B, C, Scene


def ahead_of(scene: Scene, lead: Lead, peer: str) -> None:
    scene.post(peer, head=b"o" * 32, height=1, tokens_total=100)
    lead.on_status(peer, scene.board.statuses[peer], scene.now)


def test_nothing_is_forbidden_to_who_knows_everybody_and_is_behind_nobody() -> None:
    scene = Scene()
    lead = Lead(scene.board, scene.now)
    lead.new_round(scene.now)
    assert lead.may_drive(scene.now)
    assert not lead.outrun(scene.now)
    assert lead.to_ask(scene.now) is None


def test_who_is_ahead_is_asked_after_a_moment_and_until_then_no_round_is_joined() -> None:
    scene = Scene()
    lead = Lead(scene.board, scene.now)
    ahead_of(scene, lead, B)
    assert lead.outrun(scene.now)
    assert not lead.may_drive(scene.now)
    assert lead.to_ask(scene.now) is None, "its record may be on the way"
    scene.now += 2 * ASK_SECONDS
    assert lead.to_ask(scene.now) == B
    assert lead.to_ask(scene.now) is None, "asked already"
    scene.post(B, phase="leaving")
    assert lead.to_ask(scene.now) is None
    assert not lead.outrun(scene.now), "nobody is ahead any more"


def test_who_comes_to_an_old_head_knows_at_once_who_is_ahead() -> None:
    scene = Scene()
    scene.post(B, head=b"o" * 32, height=1, tokens_total=100)
    lead = Lead(scene.board, scene.now)
    lead.new_round(scene.now)
    assert lead.outrun(scene.now)


def test_a_round_that_was_committed_without_us_is_not_held_again_though_nobody_is_met_who_has_it() -> None:
    scene = Scene()
    lead = Lead(scene.board, scene.now)
    lead.missed(HEAD.height + 1, scene.now)
    lead.new_round(scene.now)
    assert lead.outrun(scene.now)
    assert not lead.outrun(scene.now + MEET_SECONDS), "whoever had it is gone for good"


def test_of_two_lineages_the_heavier_then_the_longer_then_the_smaller_hash_leads() -> None:
    scene = Scene()
    lead = Lead(scene.board, scene.now)
    mine = scene.board.statuses[A]
    heavier = {"tokens_total": mine.tokens_total + 1, "height": 0}
    assert lead.is_ahead(mine.model_copy(update=heavier | {"head": b"\xff" * 32}))
    assert lead.is_ahead(mine.model_copy(update={"height": mine.height + 1, "head": b"\xff" * 32}))
    assert lead.is_ahead(mine.model_copy(update={"head": bytes(32)}))
    assert not lead.is_ahead(mine.model_copy(update={"head": b"\xff" * 32}))
    assert not lead.is_ahead(mine)


def test_a_node_that_has_just_come_drives_no_round_before_it_has_met_those_whom_others_hear() -> None:
    scene = Scene()
    scene.board.forget(C)
    scene.post(B, hears=())
    lead = Lead(scene.board, scene.now)
    assert lead.may_drive(scene.now), "nobody speaks of C"
    scene.post(B, hears=(tag(C),))
    assert not lead.may_drive(scene.now)
    assert lead.may_drive(scene.now + MEET_SECONDS), "it cannot be met"
    scene.board.liveness.linked(C, scene.now)
    scene.post(C)
    assert lead.may_drive(scene.now)
