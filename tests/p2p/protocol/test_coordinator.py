"""The coordinator's decisions, one by one, on a board that the test puts up."""

from __future__ import annotations

from dataclasses import replace

from p2p.protocol.board import Board
from p2p.protocol.chain import record_hash
from p2p.protocol.coordinator import (
    PROMISE_SECONDS,
    REPEAT_SECONDS,
    REST_SECONDS,
    STALL_SECONDS,
    STRAGGLER_SECONDS,
    Coordinator,
)
from p2p.protocol.effects import Effect, Note, Send
from p2p.protocol.liveness import tag
from p2p.protocol.messages import Ballot, Commit, Plan, Prepare, Ready, Record, Status, Vote, Voted
from p2p.protocol.plan import Head, draft
from tests.sim.virtual_swarm import RULES, peer_name, sign, verify

A, B, C = (peer_name(index) for index in range(3))
ROOT = b"r" * 32
HEAD = Head(
    RULES.fingerprint,
    draft(
        replace(RULES, min_peers=3),
        Head(RULES.fingerprint),
        Ballot(round=0, attempt=0, rank=0),
        {peer: Ready(round=0, tokens=0, used=()) for peer in (A, B, C)},
        ROOT,
    ),
)


def ready(peer: str) -> Ready:
    ranges = {item.peer: item.ranges for item in HEAD.ledger.assigned}
    return Ready(round=1, tokens=80, used=ranges[peer])


class Scene:
    """A coordinator `A` in a view of A, B, C, and what the others post."""

    def __init__(self) -> None:
        self.board = Board(A, RULES)
        self.board.head = HEAD
        self.now = 100.0
        self.sequence = 0
        self.coordinator = Coordinator(self.board, verify, self.now)
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
            "reduced": 0,
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

    def plan(self) -> Record:
        self.all_ready()
        plans = sent(self.step(), Plan)
        assert [to for to, _ in plans] == [A, B, C]
        return plans[0][1].draft

    def vote(self, peer: str, record: Record, **fields: object) -> None:
        digest = record_hash(record)
        vote = Vote(ballot=record.ballot, record_hash=digest, signature=sign(peer, digest))
        self.coordinator.reports.setdefault(digest, record)
        blank = {"phase": "voted", "promised": record.ballot, "ready": ready(peer), "vote": vote}
        self.post(peer, **(blank | fields))


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


def full(record: Record, seed: bytes = b"d") -> Record:
    return record.model_copy(update={"digests": tuple(seed * 32 for _ in record.seats)})


def test_it_waits_for_all_live_members_of_the_view() -> None:
    scene = Scene()
    scene.all_ready(A, B)
    assert scene.step() == []
    assert scene.plan().weights == (80, 80, 80)


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


def test_a_lost_seat_starts_an_attempt_that_first_asks_for_promises() -> None:
    scene = Scene()
    scene.plan()
    scene.post(C, phase="leaving")
    effects = scene.step()
    assert reasons(effects) == [f"lost {C}"]
    prepared = sent(effects, Prepare)
    assert [to for to, _ in prepared] == [None, A]
    ballot = prepared[0][1].ballot
    assert ballot == Ballot(round=1, attempt=1, rank=0)
    assert scene.step() == [], "nobody has promised yet"
    for peer in (A, B):
        scene.post(peer, phase="ready", ready=ready(peer), promised=ballot)
    plans = sent(scene.step(), Plan)
    assert [to for to, _ in plans] == [A, B]
    assert plans[0][1].draft.ballot == ballot


def lost_coordinator() -> tuple[Scene, Record]:
    """B had made a plan for all, and died; A is the next to drive the round."""
    scene = Scene()
    ballot = Ballot(round=1, attempt=0, rank=1)
    plan = draft(RULES, HEAD, ballot, {peer: ready(peer) for peer in (A, B, C)}, ROOT)
    scene.post(B, phase="leaving")
    return scene, plan


def test_a_record_that_all_live_seats_voted_for_is_committed_after_its_coordinator_died() -> None:
    scene, plan = lost_coordinator()
    record = full(plan)
    for peer in (A, C):
        scene.vote(peer, record)
    scene.coordinator.reports.clear()
    effects = scene.step()
    assert reasons(effects) == ["a coordinator was lost"]
    ballot = sent(effects, Prepare)[0][1].ballot
    digest = record_hash(record)
    scene.coordinator.on_voted(C, Voted(record=record, signature=sign(C, digest)))
    for peer in (A, C):
        vote = Vote(ballot=record.ballot, record_hash=digest, signature=sign(peer, digest))
        scene.post(peer, phase="ready", ready=ready(peer), promised=ballot, vote=vote)
    commits = sent(scene.step(), Commit)
    assert commits[0][1].signed.record == record
    assert [rank for rank, _ in commits[0][1].signed.signatures] == [0, 2]


def test_a_record_that_a_live_seat_did_not_vote_for_is_replaced_by_a_new_plan() -> None:
    scene, plan = lost_coordinator()
    scene.vote(C, full(plan))
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    scene.vote(C, full(plan), phase="ready", promised=ballot)
    scene.post(A, phase="ready", ready=ready(A), promised=ballot)
    plans = sent(scene.step(), Plan)
    assert plans[0][1].draft.ballot == ballot
    assert plans[0][1].draft.members == (A, C)


def test_a_vote_with_a_forged_signature_is_not_taken_up() -> None:
    scene, plan = lost_coordinator()
    scene.coordinator.on_voted(C, Voted(record=full(plan), signature=b"x" * 64))
    assert scene.coordinator.reports == {}


def test_silent_members_are_asked_again_and_then_left_out() -> None:
    scene = Scene()
    scene.plan()
    scene.post(C, phase="leaving")
    ballot = sent(scene.step(), Prepare)[0][1].ballot
    scene.post(A, phase="ready", ready=ready(A), promised=ballot)
    asked = sent(scene.step(seconds=REPEAT_SECONDS), Prepare)
    assert [to for to, _ in asked] == [B]
    plans = sent(scene.step(seconds=PROMISE_SECONDS + 1), Plan)
    assert [to for to, _ in plans] == [A]


def test_it_rests_when_somebody_has_a_higher_ballot() -> None:
    scene = Scene()
    plan = scene.plan()
    higher = Ballot(round=1, attempt=3, rank=1)
    for peer in (A, B, C):
        scene.post(peer, phase="reducing", ready=ready(peer), promised=plan.ballot if peer == A else higher)
    assert scene.step() == []
    assert scene.coordinator.ballot is None
    assert scene.step(seconds=REST_SECONDS - 1) == []
    effects = scene.step(seconds=2.0)
    assert sent(effects, Prepare)[0][1].ballot.attempt == 4


def test_a_stalled_reduce_is_tried_without_the_one_most_wait_for() -> None:
    scene = Scene()
    plan = scene.plan()
    for peer in (A, B, C):
        waits = () if peer == C else (C,)
        scene.post(peer, phase="reducing", ready=ready(peer), promised=plan.ballot, waiting_on=waits)
    assert scene.step() == []
    assert scene.step(seconds=STALL_SECONDS - 1) == []
    assert reasons(scene.step(seconds=2.0)) == [f"no progress, most wait for {C}"]
    assert scene.coordinator.excluded == {C}


def test_a_reduce_that_moves_is_left_alone() -> None:
    scene = Scene()
    plan = scene.plan()
    for turn in range(4):
        for peer in (A, B, C):
            scene.post(peer, phase="reducing", ready=ready(peer), promised=plan.ballot, reduced=turn * 1000)
        assert scene.step(seconds=STALL_SECONDS - 1) == []


def test_a_member_that_never_took_the_plan_is_the_first_to_be_blamed() -> None:
    scene = Scene()
    plan = scene.plan()
    for peer in (A, C):
        scene.post(peer, phase="reducing", ready=ready(peer), promised=plan.ballot, waiting_on=(A,))
    scene.step()
    assert reasons(scene.step(seconds=STALL_SECONDS + 1)) == [f"no progress, most wait for {B}"]
