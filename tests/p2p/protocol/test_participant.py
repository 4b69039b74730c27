"""A member's side of a round: it promises upwards only, and votes for what it holds."""

from __future__ import annotations

from p2p.protocol.ballot import Ballot
from p2p.protocol.chain import record_hash
from p2p.protocol.effects import Apply, Behind, CancelReduce, Effect, Note, Send, StartReduce
from p2p.protocol.messages import Plan, Prepare, Promise, SignedRecord
from p2p.protocol.participant import MOST_REFUSALS, Participant
from p2p.protocol.plan import fresh
from p2p.protocol.repair import adopted
from tests.p2p.protocol.test_coordinator import HEAD, ROOT, A, B, C, Scene, full, ready, sent
from tests.sim.virtual_swarm import RULES, sign, verify


class Books:
    """A reduce that has got half-way."""

    def __init__(self, ballot: Ballot) -> None:
        self.ballot = ballot
        self.values_came = 7

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
    ballot = HEAD.ballot(attempt, rank)
    return fresh(RULES, HEAD, ballot, {peer: ready(peer) for peer in (A, B, C)}, ROOT, (A, B, C))


def digests(plan: Plan) -> tuple[bytes, ...]:
    return tuple(segment.digest for segment in full(plan).segments)


def prepare(attempt: int, rank: int = 0) -> Prepare:
    return Prepare(ballot=HEAD.ballot(attempt, rank))


def acts(effects: list[Effect]) -> list[Effect]:
    """What is done, without what is told."""
    return [effect for effect in effects if not isinstance(effect, Note)]


def told(effects: list[Effect]) -> dict[str, dict[str, object]]:
    return {effect.event: effect.fields for effect in effects if isinstance(effect, Note)}


def test_a_sound_plan_is_promised_and_reduced_and_voted_for() -> None:
    participant = member()
    effects = participant.on_plan(A, plan(), ROOT)
    assert acts(effects) == [StartReduce(plan())]
    reducing = told(effects)["reducing"]
    assert (reducing["coordinator"], reducing["seats"], reducing["kept"]) == (A, (A, B, C), 0)
    assert (reducing["contributors"], reducing["values"]) == ((A, B, C), RULES.count)
    assert participant.reducing
    assert participant.promised == plan().ballot
    voted = participant.on_reduced(plan().ballot, digests(plan()))
    vote = participant.vote
    assert vote is not None
    assert voted == [Note("voted", {"round": 1, "attempt": 0, "record": vote.record_hash.hex()})]
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
    for effects in (participant.on_plan(B, plan(), ROOT), participant.on_prepare(B, prepare(attempt=1, rank=0))):
        assert acts(effects) == []
        assert told(effects)["refused_message"]["reason"] == "its ballot belongs to somebody else"
    assert participant.promised is None


def test_lower_ballots_are_ignored_and_higher_ones_end_the_running_reduce() -> None:
    participant = member()
    participant.on_plan(B, plan(attempt=1, rank=1), ROOT)
    refused = participant.on_plan(A, plan(attempt=1, rank=0), ROOT)
    assert acts(refused) == []
    reason = {"message": "plan", "reason": "we have promised to follow attempt 1 of rank 1"}
    assert told(refused) == {"refused_message": {"round": 1, "peer": A} | reason}
    assert acts(participant.on_prepare(A, prepare(attempt=0))) == []
    assert participant.on_prepare(A, prepare(attempt=0)) == [], "the same again is not told again"
    effects = participant.on_prepare(A, prepare(attempt=2))
    assert effects[0] == CancelReduce()
    assert told(effects) == {"superseded": {"round": 1, "attempt": 2, "peer": A}}
    assert participant.promised == HEAD.ballot(2, 0)
    assert participant.on_reduced(HEAD.ballot(1, 1), digests(plan())) == []
    assert participant.vote is None, "a promise made since forbids the vote"


def test_a_promise_tells_how_far_the_newest_plan_has_come() -> None:
    participant = member(Books(plan().ballot))
    assert promise(participant.on_prepare(A, prepare(attempt=1))).plan is None
    participant = member(Books(plan().ballot))
    participant.on_plan(A, plan(), ROOT)
    report = promise(participant.on_prepare(A, prepare(attempt=1)))
    assert report.plan == plan()
    assert (report.means, report.parts) == ((2, 0, 1), ((), (), (3, 1, 3)))
    assert report.vote is None
    other = member(Books(HEAD.ballot(0, 0).model_copy(update={"round": 0})))
    other.on_plan(A, plan(), ROOT)
    assert promise(other.on_prepare(A, prepare(attempt=1))).means == (), "an older reduce says nothing of this plan"


def promise(effects: list[Effect]) -> Promise:
    (found,) = [effect.message for effect in effects if isinstance(effect, Send)]
    assert isinstance(found, Promise)
    return found


def test_another_head_or_round_gets_no_promise() -> None:
    participant = member()
    other = Prepare(ballot=HEAD.ballot(1, 0).model_copy(update={"lineage": 7}))
    assert told(participant.on_prepare(A, other))["refused_message"]["reason"] == "it follows another head"
    later = Prepare(ballot=HEAD.ballot(1, 0).model_copy(update={"round": 2}))
    about = "it is about round 2, and we are in round 1"
    assert told(participant.on_prepare(A, later))["refused_message"]["reason"] == about
    assert participant.promised is None


def test_a_voter_tells_a_new_coordinator_the_record_of_its_vote() -> None:
    participant = member()
    participant.on_plan(A, plan(), ROOT)
    participant.on_reduced(plan().ballot, digests(plan()))
    report = promise(participant.on_prepare(B, prepare(attempt=1, rank=1)))
    assert report.voted == full(plan())
    assert report.vote == participant.vote is not None, "the vote stands: the record may be committed after all"


def test_a_vote_for_an_adopted_record_bears_the_new_ballot_and_the_old_hash() -> None:
    participant = member()
    record = full(plan())
    again = adopted(record, HEAD.ballot(1, 1), [B])
    effects = participant.on_plan(B, again, ROOT)
    assert acts(effects) == [StartReduce(again)]
    assert told(effects)["reducing"]["kept"] == RULES.count
    participant.on_reduced(again.ballot, digests(plan()))
    assert participant.vote is not None
    assert (participant.vote.ballot, participant.vote.record_hash) == (again.ballot, record_hash(record))
    signed = SignedRecord(record=record, signatures=())
    assert acts(participant.on_commit(signed)) == [Apply(signed, again.ballot)]


def test_a_commit_of_our_vote_is_applied_and_any_other_leaves_us_behind() -> None:
    participant = member()
    participant.on_plan(A, plan(), ROOT)
    participant.on_reduced(plan().ballot, digests(plan()))
    signed = SignedRecord(record=full(plan()), signatures=())
    effects = participant.on_commit(signed)
    assert acts(effects) == [Apply(signed, plan().ballot)]
    committed = told(effects)["committed"]
    assert (committed["members"], committed["lost"], committed["signatures"]) == ((A, B, C), (), 0)
    assert committed["record"] == record_hash(signed.record).hex()
    other = SignedRecord(record=full(plan(), b"o"), signatures=())
    effects = participant.on_commit(other)
    assert [type(effect) for effect in acts(effects)] == [Behind]
    assert told(effects) == {"behind": {"round": 1, "reason": "round 1 was committed without us"}}


def test_a_commit_without_us_ends_our_reduce() -> None:
    participant = member()
    participant.on_plan(A, plan(), ROOT)
    effects = participant.on_commit(SignedRecord(record=full(plan()), signatures=()))
    assert [type(effect) for effect in acts(effects)] == [CancelReduce, Behind]


def test_a_round_without_weight_is_voted_at_once() -> None:
    participant = member()
    nothing = {peer: ready(peer).model_copy(update={"tokens": 0, "used": ()}) for peer in (A, B, C)}
    participant.ready = nothing[C]
    empty = fresh(RULES, HEAD, HEAD.ballot(0, 0), nothing, ROOT, (A, B, C))
    effects = participant.on_plan(A, empty, ROOT)
    assert acts(effects) == []
    assert [*told(effects)] == ["reducing", "voted"]
    assert participant.vote is not None


def test_it_follows_no_attempt_behind_which_none_can_come() -> None:
    participant = member()
    [note] = participant.on_prepare(A, prepare(1 << 62))
    assert isinstance(note, Note)
    assert "no swarm gets to attempt" in str(note.fields["reason"])
    assert participant.promised is None
    assert sent(participant.on_prepare(A, prepare(7)), Promise)


def test_whoever_is_refused_again_and_again_is_told_of_a_few_times() -> None:
    participant = member()
    rounds = [Prepare(ballot=HEAD.ballot(0, 0).model_copy(update={"round": number})) for number in range(2, 1000)]
    assert sum(len(participant.on_prepare(A, message)) for message in rounds) == MOST_REFUSALS
    assert participant.on_prepare(B, rounds[0]), "of others, too"
