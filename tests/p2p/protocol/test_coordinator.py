"""The coordinator's decisions, one by one, on a board that the test puts up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2p.protocol import bitmap
from p2p.protocol.ballot import Ballot
from p2p.protocol.board import FROZEN_SECONDS, Board
from p2p.protocol.chain import record_hash
from p2p.protocol.coordinator import (
    PROMISE_SECONDS,
    REPEAT_SECONDS,
    REST_SECONDS,
    STRAGGLER_SECONDS,
    Coordinator,
)
from p2p.protocol.effects import Effect, Note, Send
from p2p.protocol.entrance import Entrance
from p2p.protocol.liveness import tag
from p2p.protocol.messages import Commit, Plan, Prepare, Promise, Ready, Record, Status, Vote
from p2p.protocol.plan import Head, fresh
from p2p.protocol.stall import STALL_SECONDS
from tests.sim.virtual_swarm import RULES, peer_name, sign, verify

A, B, C = (peer_name(index) for index in range(3))
ROOT = b"r" * 32
HEAD = Head(
    RULES.fingerprint,
    fresh(
        replace(RULES, min_peers=3),
        Head(RULES.fingerprint),
        Head(RULES.fingerprint).ballot(0, 0),
        {peer: Ready(round=0, tokens=0, used=()) for peer in (A, B, C)},
        ROOT,
        (A, B, C),
    ).draft,
)


def ready(peer: str) -> Ready:
    ranges = {item.peer: item.ranges for item in HEAD.ledger.assigned}
    return Ready(round=1, tokens=80, used=ranges[peer], codes=7)


class Scene:
    """A coordinator `A` in a view of A, B, C, and what the others post."""

    def __init__(self, first: bool = True) -> None:
        self.board = Board(A, RULES)
        self.board.follow(HEAD)
        self.now = 100.0
        self.sequence = 0
        self.coordinator = Coordinator(self.board, verify, self.now, first, Entrance())
        for peer in (B, C):
            self.board.liveness.linked(peer, self.now)
        for peer in (A, B, C):
            self.post(peer)

    def post(self, peer: str, **fields: object) -> None:
        self.sequence += 1
        blank = {
            "sequence": self.sequence,
            "height": 0,
            "head": HEAD.hash,
            "tokens_total": 0,
            "state_root": ROOT,
            "phase": "training",
            "inner_step": 0,
            "moved": 0,
            "promised": None,
            "ready": None,
            "vote": None,
            "hears": tuple(tag(other) for other in (A, B, C)),
            "silent": (),
            "waiting_on": (),
        }
        self.board.post(peer, Status.model_validate(blank | fields), self.now)

    def step(self, seconds: float = 0.0) -> list[Effect]:
        """Let time pass, with a heartbeat of everybody, then step."""
        while seconds > 0:
            self.now += min(seconds, 1.0)
            seconds -= 1.0
            for peer in (B, C):
                self.board.liveness.heard(peer, (), self.now)
        return self.coordinator.step(self.now)

    def all_ready(self, *peers: str) -> None:
        for peer in peers or (A, B, C):
            self.post(peer, phase="ready", ready=ready(peer))

    def plan(self) -> Plan:
        self.all_ready()
        plans = sent(self.step(), Plan)
        assert [to for to, _ in plans] == [A, B, C]
        return plans[0][1]

    def vote(self, peer: str, record: Record, ballot: Ballot | None = None, **fields: object) -> None:
        vote = vote_of(peer, record, ballot)
        self.coordinator.know_record(peer, vote.record_hash, record)
        blank = {"phase": "voted", "promised": vote.ballot, "ready": ready(peer), "vote": vote}
        self.post(peer, **(blank | fields))

    def promise(self, peer: str, ballot: Ballot, voted: Record | None = None, **fields: object) -> None:
        """The peer promises `ballot`; it has voted for `voted`."""
        vote = vote_of(peer, voted) if voted is not None else None
        blank = {
            "ballot": ballot,
            "ready": ready(peer),
            "plan": None,
            "means": (),
            "parts": (),
            "vote": vote,
            "voted": voted,
        }
        self.coordinator.on_promise(peer, Promise.model_validate(blank | fields))
        self.post(peer, phase="ready", ready=ready(peer), promised=ballot, vote=vote)


def vote_of(peer: str, record: Record, ballot: Ballot | None = None) -> Vote:
    digest = record_hash(record)
    return Vote(ballot=ballot or record.ballot, record_hash=digest, signature=sign(peer, digest))


def sent(effects: list[Effect], kind: type) -> list[tuple[str | None, object]]:
    return [
        (effect.to, effect.message)
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, kind)
    ]


def reasons(effects: list[Effect]) -> list[str]:
    return [
        str(effect.fields["reason"]) for effect in effects if isinstance(effect, Note) and effect.event == "attempt"
    ]


def full(plan: Plan, seed: bytes = b"d") -> Record:
    return plan.draft.with_digests(tuple(seed * 32 for _ in plan.draft.segments))


def test_it_waits_for_all_live_members_of_the_view() -> None:
    scene = Scene()
    scene.all_ready(A, B)
    assert scene.step() == []
    assert scene.plan().draft.weights == (80, 80, 80)


def test_it_does_not_wait_for_the_dead_nor_for_those_who_leave() -> None:
    scene = Scene()
    scene.all_ready(A, B)
    scene.post(C, phase="leaving")
    assert [to for to, _ in sent(scene.step(), Plan)] == [A, B]


def test_a_straggler_is_waited_for_until_a_deadline_that_grows_with_the_round() -> None:
    scene = Scene()
    scene.step(seconds=200.0)
    scene.all_ready(A, B)
    assert scene.step() == []
    assert scene.step(seconds=STRAGGLER_SECONDS + 1) == [], "the round took 200 s already"
    effects = scene.step(seconds=200.0)
    assert [to for to, _ in sent(effects, Plan)] == [A, B]
    assert any(isinstance(effect, Note) and effect.event == "straggler" for effect in effects)


def test_members_with_another_state_are_left_out() -> None:
    scene = Scene()
    scene.all_ready(A, B)
    scene.post(C, phase="ready", ready=ready(C), state_root=b"x" * 32)
    assert scene.step() == []
    assert [to for to, _ in sent(scene.step(seconds=STRAGGLER_SECONDS + 2), Plan)] == [A, B]


def test_equal_votes_of_all_seats_commit_with_their_signatures() -> None:
    scene = Scene()
    record = full(scene.plan())
    for peer in (A, B):
        scene.vote(peer, record)
        assert scene.step() == []
    scene.vote(C, record)
    commits = sent(scene.step(), Commit)
    assert [to for to, _ in commits] == [None, A]
    signed = commits[0][1].signed
    assert signed.record == record
    assert [rank for rank, _ in signed.signatures] == [0, 1, 2]


def test_a_forged_vote_does_not_count() -> None:
    scene = Scene()
    record = full(scene.plan())
    for peer in (A, B):
        scene.vote(peer, record)
    digest = record_hash(record)
    forged = Vote(ballot=record.ballot, record_hash=digest, signature=sign(B, digest))
    scene.post(C, phase="voted", promised=record.ballot, ready=ready(C), vote=forged)
    assert scene.step() == []


def test_different_results_start_an_attempt_without_the_odd_one() -> None:
    scene = Scene()
    plan = scene.plan()
    for peer in (A, B):
        scene.vote(peer, full(plan))
    scene.vote(C, full(plan, b"e"))
    effects = scene.step()
    assert reasons(effects) == [f"different results at {C}"]
    assert scene.coordinator.excluded == {C}


def test_a_lost_seat_starts_an_attempt_that_first_asks_for_promises_and_then_repairs() -> None:
    scene = Scene()
    plan = scene.plan()
    scene.post(C, phase="leaving")
    effects = scene.step()
    assert reasons(effects) == [f"lost {C}: it said that it leaves"]
    prepared = sent(effects, Prepare)
    assert [to for to, _ in prepared] == [None, A]
    ballot = prepared[0][1].ballot
    assert ballot == HEAD.ballot(1, 0)
    assert scene.step() == [], "nobody has promised yet"
    pieces = [segment.stop // plan.draft.piece for segment in plan.draft.segments]
    scene.promise(A, ballot, plan=plan, means=(1, 0, 2), parts=((4, 4, 3), (), ()))
    scene.promise(B, ballot, plan=plan, means=(0, 0, 0), parts=((), (4, 4, 0), ()))
    effects = scene.step()
    assert ("repaired", [C]) in [(e.event, e.fields["lost"]) for e in effects if isinstance(e, Note)]
    plans = sent(effects, Plan)
    assert [to for to, _ in plans] == [A, B]
    again = plans[0][1]
    assert again.ballot == ballot
    stops = [segment.stop // plan.draft.piece for segment in again.draft.segments]
    assert stops[:4] == [3, pieces[0], pieces[1], pieces[1] + 2], "what C had given to A stays, and what A has of C's"
    assert [bitmap.unpack(s.contributors) for s in again.draft.segments[:4]] == [(0, 1, 2), (0, 1), (0, 1), (0, 1, 2)]
    assert [(route.owner, route.done) for route in again.routes[:4]] == [(0, False), (0, False), (1, False), (0, True)]
    assert [(seat.peer, seat.present) for seat in again.draft.seats] == [(A, True), (B, True), (C, False)]


def test_only_the_first_of_the_view_that_committed_the_last_round_may_plan_without_asking() -> None:
    scene = Scene(first=False)
    scene.all_ready()
    effects = scene.step()
    assert sent(effects, Plan) == []
    ballot = sent(effects, Prepare)[0][1].ballot
    for peer in (A, B, C):
        scene.promise(peer, ballot)
    assert [to for to, _ in sent(scene.step(), Plan)] == [A, B, C]


def lost_coordinator() -> tuple[Scene, Plan]:
    """B had made a plan for all, and died; A is the next to drive the round."""
    scene = Scene()
    ballot = HEAD.ballot(0, 1)
    plan = fresh(RULES, HEAD, ballot, {peer: ready(peer) for peer in (A, B, C)}, ROOT, (A, B, C))
    scene.post(A, phase="reducing", ready=ready(A), promised=ballot)
    scene.post(B, phase="leaving")
    return scene, plan


def test_a_record_that_all_live_seats_voted_for_is_committed_after_its_coordinator_died() -> None:
    scene, plan = lost_coordinator()
    record = full(plan)
    effects = scene.step()
    assert reasons(effects) == [f"lost its coordinator {B}: it said that it leaves"]
    ballot = sent(effects, Prepare)[0][1].ballot
    for peer in (A, C):
        scene.promise(peer, ballot, record)
    commits = sent(scene.step(), Commit)
    assert commits[0][1].signed.record == record
    assert [rank for rank, _ in commits[0][1].signed.signatures] == [0, 2]


def test_a_record_that_one_live_seat_voted_for_is_adopted_by_the_others() -> None:
    scene, plan = lost_coordinator()
    record = full(plan)
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    scene.promise(C, ballot, record)
    scene.promise(A, ballot, plan=plan)
    plans = sent(scene.step(), Plan)
    assert [to for to, _ in plans] == [A, C]
    again = plans[0][1]
    assert (again.ballot, again.draft) == (ballot, record)
    assert [(route.owner, route.done) for route in again.routes] == [(2, True)] * 3, "C has it all"
    scene.vote(C, record, ballot)
    assert scene.step() == []
    scene.vote(A, record, ballot)
    commits = sent(scene.step(), Commit)
    assert commits[0][1].signed.record == record
    assert [rank for rank, _ in commits[0][1].signed.signatures] == [0, 2]


def test_the_vote_with_the_highest_ballot_is_adopted() -> None:
    scene, plan = lost_coordinator()
    higher = HEAD.ballot(1, 1)
    later = fresh(RULES, HEAD, higher, {peer: ready(peer) for peer in (A, C)}, ROOT, (A, C))
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    scene.promise(A, ballot, full(plan))
    scene.promise(C, ballot, full(later))
    assert sent(scene.step(), Plan)[0][1].draft == full(later)


@pytest.mark.parametrize("lie", ["signature", "hash", "head", "stranger", "no record", "a draft", "tokens"])
def test_a_vote_that_proves_nothing_is_not_taken_up(lie: str) -> None:
    scene, plan = lost_coordinator()
    record = full(plan)
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    vote, voted = vote_of(C, record), record
    if lie == "signature":
        vote = vote.model_copy(update={"signature": sign(B, vote.record_hash)})
    elif lie == "hash":
        vote = vote.model_copy(update={"record_hash": b"h" * 32, "signature": sign(C, b"h" * 32)})
    elif lie == "head":
        voted = record.model_copy(update={"previous": b"p" * 32})
        vote = vote_of(C, voted)
    elif lie == "stranger":
        voted = record.model_copy(update={"seats": record.seats[:2]})
        vote = vote_of(C, voted)
    elif lie in ("a draft", "tokens"):
        voted = plan.draft if lie == "a draft" else record.model_copy(update={"tokens_total": 1})
        vote = vote_of(C, voted)
    blank = {"ballot": ballot, "ready": ready(C), "plan": None, "means": (), "parts": ()}
    told = Promise.model_validate(blank | {"vote": vote, "voted": None if lie == "no record" else voted})
    (note,) = scene.coordinator.on_promise(C, told)
    assert isinstance(note, Note)
    assert (note.event, note.fields["peer"], note.fields["message"]) == ("refused_message", C, "promise")
    assert scene.coordinator.records == {}
    assert scene.coordinator.promises == {}


def test_the_vote_of_a_member_that_has_restarted_since_went_with_its_mean() -> None:
    scene, plan = lost_coordinator()
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    scene.promise(A, ballot)
    scene.promise(C, ballot, full(plan))
    scene.coordinator.on_link_up(C)
    effects = scene.step()
    assert not sent(effects, Commit), "its promise is of its life before the link"
    scene.promise(C, ballot, ready=None)
    effects = scene.step()
    assert not sent(effects, Commit)
    assert not [effect for effect in effects if isinstance(effect, Note) and effect.event == "adopted"]


def test_a_vote_counts_though_the_last_status_of_its_member_is_older() -> None:
    scene, plan = lost_coordinator()
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    scene.promise(A, ballot)
    scene.promise(C, ballot, full(plan))
    scene.post(C, phase="training", ready=None)
    assert [effect.event for effect in scene.step() if isinstance(effect, Note)] == ["adopted"]


def test_whoever_shows_ever_new_records_replaces_his_own() -> None:
    scene, plan = lost_coordinator()
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    for number in range(50):
        scene.promise(C, ballot, full(plan, bytes([number])))
    assert len(scene.coordinator.records) == 1


def test_whoever_gives_no_promise_is_done_without() -> None:
    scene = Scene()
    scene.plan()
    scene.post(C, phase="leaving")
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    scene.promise(A, ballot)
    asked = sent(scene.step(seconds=REPEAT_SECONDS), Prepare)
    assert [to for to, _ in asked] == [B]
    effects = scene.step(seconds=PROMISE_SECONDS + 1)
    assert [(e.event, e.fields["peer"]) for e in effects if isinstance(e, Note)] == [("excluded", B)]
    assert [to for to, _ in sent(scene.step(), Plan)] == [A]


def test_it_rests_when_somebody_has_a_higher_ballot() -> None:
    scene = Scene()
    plan = scene.plan()
    higher = HEAD.ballot(3, 1)
    for peer in (A, B, C):
        scene.post(peer, phase="reducing", ready=ready(peer), promised=plan.ballot if peer == A else higher)
    assert scene.step() == []
    assert scene.coordinator.ballot is None
    assert scene.step(seconds=REST_SECONDS - 1) == []
    effects = scene.step(seconds=2.0)
    assert sent(effects, Prepare)[0][1].ballot.attempt == 4


def test_a_stalled_reduce_is_tried_without_the_one_that_is_waited_for() -> None:
    scene = Scene()
    plan = scene.plan()
    for peer in (A, B, C):
        waits = () if peer == C else (C,)
        scene.post(peer, phase="reducing", ready=ready(peer), promised=plan.ballot, waiting_on=waits)
    assert scene.step() == []
    assert scene.step(seconds=STALL_SECONDS - 1) == []
    assert reasons(scene.step(seconds=2.0)) == [f"no progress: most wait for {C}"]
    assert scene.coordinator.excluded == {C}


def test_a_frozen_trainer_is_not_waited_for_until_the_deadline() -> None:
    scene = Scene()
    for step in range(3):
        scene.step(seconds=2.0)
        scene.post(C, inner_step=step)
    scene.all_ready(A, B)
    assert scene.step(seconds=FROZEN_SECONDS - 2) == []
    effects = scene.step(seconds=4.0)
    assert [to for to, _ in sent(effects, Plan)] == [A, B]
    (note,) = [effect for effect in effects if isinstance(effect, Note)]
    assert (note.event, note.fields["reason"]) == ("straggler", "its training stands still")


def test_whoever_was_left_out_is_asked_anew_if_a_round_needs_it() -> None:
    scene = Scene()
    scene.board.rules = replace(RULES, min_peers=2)
    scene.plan()
    scene.post(C, phase="leaving")
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    scene.promise(A, ballot)
    scene.step(seconds=PROMISE_SECONDS + 1)
    assert scene.coordinator.excluded == {B}
    scene.step()
    asked = sent(scene.step(seconds=REPEAT_SECONDS), Prepare)
    assert [to for to, _ in asked] == [B], "alone we are too few"
    scene.promise(B, ballot)
    assert [to for to, _ in sent(scene.step(), Plan)] == [A, B]


def test_a_member_that_restarted_in_the_midst_of_an_attempt_is_lost_to_its_repair() -> None:
    scene = Scene()
    plan = scene.plan()
    scene.post(C, phase="leaving")
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    scene.promise(A, ballot, plan=plan, means=(0, 0, 0), parts=((4, 4, 4), (), ()))
    scene.promise(B, ballot, ready=ready(B).model_copy(update={"codes": 8}))
    effects = scene.step()
    assert [e.fields["lost"] for e in effects if isinstance(e, Note) and e.event == "repaired"] == [[B, C]]
    assert [to for to, _ in sent(effects, Plan)] == [A]


def test_a_member_that_the_plan_had_not_reached_yet_keeps_its_seat_in_the_repair() -> None:
    scene = Scene()
    plan = scene.plan()
    scene.post(C, phase="leaving")
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    scene.promise(A, ballot, plan=plan, means=(0, 0, 0), parts=((4, 0, 4), (), ()))
    scene.promise(B, ballot)
    assert [to for to, _ in sent(scene.step(), Plan)] == [A, B]


def stranger_has_voted() -> tuple[Scene, Plan, Ballot]:
    """A has voted and opens an attempt; C has a seat, is heard by others, and A has never met it."""
    scene, plan = lost_coordinator()
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    scene.board.forget(C)
    scene.board.liveness.heard(B, (tag(C),), scene.now)
    scene.promise(A, ballot, full(plan))
    return scene, plan, ballot


def test_a_voter_that_others_hear_is_met_before_its_record_is_committed() -> None:
    """A coordinator that wakes from a freeze may not know a newcomer that has a seat."""
    scene, plan, ballot = stranger_has_voted()
    assert scene.step() == []
    scene.board.liveness.linked(C, scene.now)
    scene.post(C)
    scene.promise(C, ballot, full(plan))
    (commit, *_) = [message for _, message in sent(scene.step(), Commit)]
    assert [rank for rank, _ in commit.signed.signatures] == [0, 2]


def test_a_voter_that_others_hear_and_that_never_comes_is_waited_for_no_longer_than_for_a_promise() -> None:
    scene, _, _ = stranger_has_voted()
    assert scene.step() == []
    assert sent(scene.step(seconds=PROMISE_SECONDS + 1), Commit)
