"""A member's side of a round: it promises upwards only, and votes for what it holds."""

from __future__ import annotations

from p2p.protocol.chain import record_hash
from p2p.protocol.effects import Apply, Behind, CancelReduce, Note, Send, StartReduce
from p2p.protocol.messages import Ballot, Plan, Prepare, Record, SignedRecord, Voted
from p2p.protocol.participant import Participant
from p2p.protocol.plan import draft
from tests.p2p.protocol.test_coordinator import HEAD, ROOT, A, B, C, Scene, full, ready
from tests.sim.virtual_swarm import RULES, sign, verify


def member() -> Participant:
    """C, ready in the view of A, B, C."""
    scene = Scene()
    scene.board.me = C
    participant = Participant(scene.board, lambda digest: sign(C, digest))
    participant.ready = ready(C)
    return participant


def plan(attempt: int = 0, rank: int = 0) -> Record:
    ballot = Ballot(round=1, attempt=attempt, rank=rank)
    return draft(RULES, HEAD, ballot, {peer: ready(peer) for peer in (A, B, C)}, ROOT)


def digests(record: Record) -> tuple[bytes, ...]:
    return full(record).digests


def prepare(attempt: int, rank: int = 0) -> Prepare:
    return Prepare(ballot=Ballot(round=1, attempt=attempt, rank=rank), head=HEAD.hash)


def test_a_sound_plan_is_promised_and_reduced_and_voted_for() -> None:
    participant = member()
    assert participant.on_plan(A, Plan(draft=plan()), ROOT) == [StartReduce(plan())]
    assert participant.reducing
    assert participant.promised == plan().ballot
    assert participant.on_reduced(plan().ballot, digests(plan())) == []
    vote = participant.vote
    assert vote is not None
    assert vote.record_hash == record_hash(full(plan()))
    assert verify(C, vote.record_hash, vote.signature)
    assert participant.on_plan(A, Plan(draft=plan()), ROOT) == [], "the same plan again changes nothing"


def test_an_unsound_plan_is_refused_with_a_reason() -> None:
    participant = member()
    effects = participant.on_plan(A, Plan(draft=plan().model_copy(update={"codec": "fp32"})), ROOT)
    assert [effect.event for effect in effects if isinstance(effect, Note)] == ["refused_plan"]
    assert participant.promised is None


def test_a_ballot_counts_only_from_the_coordinator_whose_rank_it_bears() -> None:
    participant = member()
    assert participant.on_plan(B, Plan(draft=plan()), ROOT) == []
    assert participant.on_prepare(B, prepare(attempt=1, rank=0)) == []
    assert participant.promised is None


def test_lower_ballots_are_ignored_and_higher_ones_end_the_running_reduce() -> None:
    participant = member()
    participant.on_plan(B, Plan(draft=plan(attempt=1, rank=1)), ROOT)
    assert participant.on_plan(A, Plan(draft=plan(attempt=1, rank=0)), ROOT) == []
    assert participant.on_prepare(A, prepare(attempt=0)) == []
    assert participant.on_prepare(A, prepare(attempt=2)) == [CancelReduce()]
    assert participant.promised == Ballot(round=1, attempt=2, rank=0)
    assert participant.on_reduced(Ballot(round=1, attempt=1, rank=1), digests(plan())) == []
    assert participant.vote is None, "a promise made since forbids the vote"


def test_another_head_or_round_gets_no_promise() -> None:
    participant = member()
    other = Prepare(ballot=Ballot(round=1, attempt=1, rank=0), head=b"o" * 32)
    assert participant.on_prepare(A, other) == []
    later = Prepare(ballot=Ballot(round=2, attempt=1, rank=0), head=HEAD.hash)
    assert participant.on_prepare(A, later) == []
    assert participant.promised is None


def test_a_voter_tells_a_new_coordinator_the_record_of_its_vote() -> None:
    participant = member()
    participant.on_plan(A, Plan(draft=plan()), ROOT)
    participant.on_reduced(plan().ballot, digests(plan()))
    assert participant.vote is not None
    expected = Voted(record=full(plan()), signature=participant.vote.signature)
    assert participant.on_prepare(B, prepare(attempt=1, rank=1)) == [Send(B, expected)]
    assert participant.vote is not None, "the vote stands: the record may be committed after all"


def test_a_commit_of_our_vote_is_applied_and_any_other_leaves_us_behind() -> None:
    participant = member()
    participant.on_plan(A, Plan(draft=plan()), ROOT)
    participant.on_reduced(plan().ballot, digests(plan()))
    signed = SignedRecord(record=full(plan()), signatures=())
    assert participant.on_commit(signed) == [Apply(signed)]
    other = SignedRecord(record=full(plan(), b"o"), signatures=())
    assert [type(effect) for effect in participant.on_commit(other)] == [Behind]


def test_a_commit_without_us_ends_our_reduce() -> None:
    participant = member()
    participant.on_plan(A, Plan(draft=plan()), ROOT)
    effects = participant.on_commit(SignedRecord(record=full(plan()), signatures=()))
    assert [type(effect) for effect in effects] == [CancelReduce, Behind]


def test_a_round_without_weight_is_voted_at_once() -> None:
    participant = member()
    nothing = {peer: ready(peer).model_copy(update={"tokens": 0, "used": ()}) for peer in (A, B, C)}
    participant.ready = nothing[C]
    empty = draft(RULES, HEAD, Ballot(round=1, attempt=0, rank=0), nothing, ROOT)
    assert participant.on_plan(A, Plan(draft=empty), ROOT) == []
    assert participant.vote is not None
