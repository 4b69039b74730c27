"""A member's side of a round: it promises upwards only, and votes for what it holds."""

from __future__ import annotations

from p2p.protocol.chain import record_hash
from p2p.protocol.effects import Apply, Behind, CancelReduce, Effect, Note, Send, StartReduce
from p2p.protocol.messages import Ballot, Plan, Prepare, Promise, SignedRecord
from p2p.protocol.participant import Participant
from p2p.protocol.plan import fresh
from p2p.protocol.repair import adopted
from tests.p2p.protocol.test_coordinator import HEAD, ROOT, A, B, C, Scene, full, ready
from tests.sim.virtual_swarm import RULES, sign, verify


class Books:
    """A reduce that has got half-way."""

    def __init__(self, ballot: Ballot) -> None:
        self.ballot = ballot
        self.values_held = 7

    def waiting_on(self) -> tuple[str, ...]:
        return (A,)

    def leading_means(self) -> tuple[int, ...]:
        return (2, 0, 1)

    def leading_parts(self) -> tuple[tuple[int, ...], ...]:
        return ((), (), (3, 1, 3))


def member(books: Books | None = None) -> Participant:
    """C, ready in the view of A, B, C."""
    scene = Scene()
    scene.board.me = C
    participant = Participant(scene.board, lambda digest: sign(C, digest), lambda: books)
    participant.ready = ready(C)
    return participant


def plan(attempt: int = 0, rank: int = 0) -> Plan:
    ballot = Ballot(round=1, attempt=attempt, rank=rank)
    return fresh(RULES, HEAD, ballot, {peer: ready(peer) for peer in (A, B, C)}, ROOT, (A, B, C))


def digests(plan: Plan) -> tuple[bytes, ...]:
    return tuple(segment.digest for segment in full(plan).segments)


def prepare(attempt: int, rank: int = 0) -> Prepare:
    return Prepare(ballot=Ballot(round=1, attempt=attempt, rank=rank), head=HEAD.hash)


def test_a_sound_plan_is_promised_and_reduced_and_voted_for() -> None:
    participant = member()
    assert participant.on_plan(A, plan(), ROOT) == [StartReduce(plan())]
    assert participant.reducing
    assert participant.promised == plan().ballot
    assert participant.on_reduced(plan().ballot, digests(plan())) == []
    vote = participant.vote
    assert vote is not None
    assert vote.record_hash == record_hash(full(plan()))
    assert verify(C, vote.record_hash, vote.signature)
    assert participant.on_plan(A, plan(), ROOT) == [], "the same plan again changes nothing"


def test_an_unsound_plan_is_refused_with_a_reason() -> None:
    participant = member()
    wrong = plan().model_copy(update={"draft": plan().draft.model_copy(update={"codec": "fp32"})})
    effects = participant.on_plan(A, wrong, ROOT)
    assert [effect.event for effect in effects if isinstance(effect, Note)] == ["refused_plan"]
    assert participant.promised is None


def test_a_ballot_counts_only_from_the_coordinator_whose_rank_it_bears() -> None:
    participant = member()
    assert participant.on_plan(B, plan(), ROOT) == []
    assert participant.on_prepare(B, prepare(attempt=1, rank=0)) == []
    assert participant.promised is None


def test_lower_ballots_are_ignored_and_higher_ones_end_the_running_reduce() -> None:
    participant = member()
    participant.on_plan(B, plan(attempt=1, rank=1), ROOT)
    assert participant.on_plan(A, plan(attempt=1, rank=0), ROOT) == []
    assert participant.on_prepare(A, prepare(attempt=0)) == []
    assert participant.on_prepare(A, prepare(attempt=2))[0] == CancelReduce()
    assert participant.promised == Ballot(round=1, attempt=2, rank=0)
    assert participant.on_reduced(Ballot(round=1, attempt=1, rank=1), digests(plan())) == []
    assert participant.vote is None, "a promise made since forbids the vote"


def test_a_promise_tells_how_far_the_newest_plan_has_come() -> None:
    participant = member(Books(plan().ballot))
    assert promise(participant.on_prepare(A, prepare(attempt=1))).plan is None
    participant = member(Books(plan().ballot))
    participant.on_plan(A, plan(), ROOT)
    told = promise(participant.on_prepare(A, prepare(attempt=1)))
    assert told.plan == plan()
    assert (told.means, told.parts) == ((2, 0, 1), ((), (), (3, 1, 3)))
    assert told.vote is None
    other = member(Books(Ballot(round=0, attempt=0, rank=0)))
    other.on_plan(A, plan(), ROOT)
    assert promise(other.on_prepare(A, prepare(attempt=1))).means == (), "an older reduce says nothing of this plan"


def promise(effects: list[Effect]) -> Promise:
    (found,) = [effect.message for effect in effects if isinstance(effect, Send)]
    assert isinstance(found, Promise)
    return found


def test_another_head_or_round_gets_no_promise() -> None:
    participant = member()
    other = Prepare(ballot=Ballot(round=1, attempt=1, rank=0), head=b"o" * 32)
    assert participant.on_prepare(A, other) == []
    later = Prepare(ballot=Ballot(round=2, attempt=1, rank=0), head=HEAD.hash)
    assert participant.on_prepare(A, later) == []
    assert participant.promised is None


def test_a_voter_tells_a_new_coordinator_the_record_of_its_vote() -> None:
    participant = member()
    participant.on_plan(A, plan(), ROOT)
    participant.on_reduced(plan().ballot, digests(plan()))
    told = promise(participant.on_prepare(B, prepare(attempt=1, rank=1)))
    assert told.voted == full(plan())
    assert told.vote == participant.vote is not None, "the vote stands: the record may be committed after all"


def test_a_vote_for_an_adopted_record_bears_the_new_ballot_and_the_old_hash() -> None:
    participant = member()
    record = full(plan())
    again = adopted(record, Ballot(round=1, attempt=1, rank=1), [B])
    assert participant.on_plan(B, again, ROOT) == [StartReduce(again)]
    participant.on_reduced(again.ballot, digests(plan()))
    assert participant.vote is not None
    assert (participant.vote.ballot, participant.vote.record_hash) == (again.ballot, record_hash(record))
    signed = SignedRecord(record=record, signatures=())
    assert participant.on_commit(signed) == [Apply(signed, again.ballot)]


def test_a_commit_of_our_vote_is_applied_and_any_other_leaves_us_behind() -> None:
    participant = member()
    participant.on_plan(A, plan(), ROOT)
    participant.on_reduced(plan().ballot, digests(plan()))
    signed = SignedRecord(record=full(plan()), signatures=())
    assert participant.on_commit(signed) == [Apply(signed, plan().ballot)]
    other = SignedRecord(record=full(plan(), b"o"), signatures=())
    assert [type(effect) for effect in participant.on_commit(other)] == [Behind]


def test_a_commit_without_us_ends_our_reduce() -> None:
    participant = member()
    participant.on_plan(A, plan(), ROOT)
    effects = participant.on_commit(SignedRecord(record=full(plan()), signatures=()))
    assert [type(effect) for effect in effects] == [CancelReduce, Behind]


def test_a_round_without_weight_is_voted_at_once() -> None:
    participant = member()
    nothing = {peer: ready(peer).model_copy(update={"tokens": 0, "used": ()}) for peer in (A, B, C)}
    participant.ready = nothing[C]
    empty = fresh(RULES, HEAD, Ballot(round=1, attempt=0, rank=0), nothing, ROOT, (A, B, C))
    assert participant.on_plan(A, empty, ROOT) == []
    assert participant.vote is not None
