"""Deliberate faults in the protocol, each a line or two that one might get wrong. The simulator must catch them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from p2p.protocol import coordinator, ledger, plan, repair
from p2p.protocol.ballot import Ballot
from p2p.protocol.chain import record_hash
from p2p.protocol.coordinator import Coordinator
from p2p.protocol.effects import Apply, Effect
from p2p.protocol.lead import Lead
from p2p.protocol.messages import Ledger, Plan, Prepare, Ready, Record, Seat, SignedRecord, Vote
from p2p.protocol.participant import Participant
from p2p.protocol.plan import Head, Rules
from p2p.protocol.transfer import FetchCore

Mutation = Callable[[pytest.MonkeyPatch], None]


def commit_by_majority(patch: pytest.MonkeyPatch) -> None:
    """More than half of the seats have voted: that is enough."""
    tally = Coordinator._tally

    def mutated(self: Coordinator, now: float) -> list[Effect]:
        votes = {peer: vote for peer in self._voters if (vote := self._vote_of_plan(peer)) is not None}
        return self._decide(votes, now) if 2 * len(votes) > len(self._voters) else tally(self, now)

    patch.setattr(Coordinator, "_tally", mutated)


def plan_without_all_promises(patch: pytest.MonkeyPatch) -> None:
    """The first promises are enough to go on."""

    def mutated(self: Coordinator, now: float) -> list[Effect]:
        asked = [peer for peer in self.board.possible(now) if peer in self.promises]
        return self._plan_next(asked, now) if asked else []

    patch.setattr(Coordinator, "_evaluate", mutated)


def never_adopt(patch: pytest.MonkeyPatch) -> None:
    """A new coordinator makes its own plan, whatever was voted for."""
    patch.setattr(Coordinator, "_highest_voted", lambda _self, _live: None)


def adopt_without_asking(patch: pytest.MonkeyPatch) -> None:
    """A record that somebody voted for is committed, whoever else has it."""

    def mutated(self: Coordinator, record: Record, live: Collection[str], now: float) -> list[Effect]:
        digest = record_hash(record)
        votes = {p: v for p in live if (v := self.promises[p].vote) is not None and v.record_hash == digest}
        return self._commit(record, votes)

    patch.setattr(Coordinator, "_adopt", mutated)


def attempt_zero_for_anybody(patch: pytest.MonkeyPatch) -> None:
    """Whoever takes over starts afresh, without asking what went before."""

    def mutated(self: Coordinator, now: float) -> list[Effect]:
        return self._try_fresh(self.board.head.ballot(0, self.board.rank(self.board.me)), now)

    patch.setattr(Coordinator, "_open", mutated)


def promise_nothing(patch: pytest.MonkeyPatch) -> None:
    """A promise leaves out the vote that was given."""
    prepare = Participant.on_prepare

    def mutated(self: Participant, sender: str, message: Prepare) -> list[Effect]:
        vote, voted, self.vote, self.voted = self.vote, self.voted, None, None
        try:
            return prepare(self, sender, message)
        finally:
            self.vote, self.voted = vote, voted

    patch.setattr(Participant, "on_prepare", mutated)


def apply_any_commit(patch: pytest.MonkeyPatch) -> None:
    """A member that has some mean of the round applies it, whichever record is committed."""
    on_commit = Participant.on_commit

    def mutated(self: Participant, signed: SignedRecord) -> list[Effect]:
        if self.vote is not None:
            return [*self.stop(), Apply(signed, self.vote.ballot)]
        return on_commit(self, signed)

    patch.setattr(Participant, "on_commit", mutated)


def believe_the_coordinator(patch: pytest.MonkeyPatch) -> None:
    """A member takes any plan for right, and one comes that doubles all weights."""

    def mutated(*_: object) -> None:
        return

    patch.setattr("p2p.protocol.participant.check", mutated)
    patch.setattr(coordinator, "check_draft", mutated)
    fresh = plan.fresh

    def doubled(
        rules: Rules, head: Head, ballot: Ballot, ready: Mapping[str, Ready], root: bytes, owners: Collection[str]
    ) -> Plan:
        twice = {peer: report.model_copy(update={"tokens": 2 * report.tokens}) for peer, report in ready.items()}
        return fresh(rules, head, ballot, twice, root, owners)

    patch.setattr(coordinator, "fresh", doubled)


def count_newcomers(patch: pytest.MonkeyPatch) -> None:
    """A newcomer has weight in the round in which it comes."""
    patch.setattr(plan, "_check_seats", lambda _head, _seats: None)
    fresh = plan.fresh

    def mutated(
        rules: Rules, head: Head, ballot: Ballot, ready: Mapping[str, Ready], root: bytes, owners: Collection[str]
    ) -> Plan:
        counted = {p: r.model_copy(update={"tokens": 80}) if p not in head.view else r for p, r in ready.items()}
        return fresh(rules, head, ballot, counted, root, owners)

    patch.setattr(coordinator, "fresh", mutated)


def divide_by_the_old_weights(patch: pytest.MonkeyPatch) -> None:
    """After a death the mean is still divided by the weights of all who began the round."""
    mended = repair._mended

    def mutated(scene: Any, index: int) -> list[Any]:
        segment = scene.plan.draft.segments[index]
        names = tuple(scene.plan.draft.members[r] for r in repair.bitmap.unpack(segment.contributors))
        return [replace(stretch, contributors=names) for stretch in mended(scene, index)]

    patch.setattr(repair, "_mended", mutated)


def lose_unused_samples(patch: pytest.MonkeyPatch) -> None:
    """What was assigned and not used does not return to the pool."""
    settle = ledger.settle

    def mutated(book: Ledger, seats: Sequence[Seat], quota: int) -> Ledger:
        held = book.model_copy(update={"free": ()})
        return settle(held, seats, quota)

    patch.setattr(ledger, "settle", mutated)


def hand_out_samples_twice(patch: pytest.MonkeyPatch) -> None:
    """Every member of the next view gets the same new samples."""
    settle = ledger.settle

    def mutated(book: Ledger, seats: Sequence[Seat], quota: int) -> Ledger:
        after = settle(book, seats, quota)
        first = after.assigned[0].ranges
        return after.model_copy(
            update={"assigned": tuple(item.model_copy(update={"ranges": first}) for item in after.assigned)}
        )

    patch.setattr(ledger, "settle", mutated)


def hold_nobody_for_ahead(patch: pytest.MonkeyPatch) -> None:
    """A member never finds out that others have gone on without it."""
    patch.setattr(Lead, "is_ahead", lambda _self, _status: False)


def vote_after_a_higher_promise(patch: pytest.MonkeyPatch) -> None:
    """A reduce goes on after its member has promised a higher ballot, and its end counts as a vote for that."""

    def stop(self: Participant) -> list[Effect]:
        return []

    def mutated(self: Participant, ballot: Ballot, digests: tuple[bytes, ...]) -> list[Effect]:
        if not self.reducing or self.plan is None or self.plan.ballot != ballot:
            return []
        self.voted, self.reducing = self.plan.draft.with_digests(digests), False
        digest = record_hash(self.voted)
        self.vote = Vote(ballot=self.promised or ballot, record_hash=digest, signature=self.sign(digest))
        return []

    patch.setattr(Participant, "stop", stop)
    patch.setattr(Participant, "on_reduced", mutated)


def judge_by_another_history(patch: pytest.MonkeyPatch) -> None:
    """State that was asked for while another history was ours is judged by the one that is ours now."""
    patch.setattr(FetchCore, "_outdated", lambda _self, _request: False)


MUTATIONS: dict[Mutation, int] = {
    commit_by_majority: 0,
    plan_without_all_promises: 1,
    never_adopt: 184,
    adopt_without_asking: 97,
    attempt_zero_for_anybody: 10,
    promise_nothing: 184,
    apply_any_commit: 5,
    believe_the_coordinator: 0,
    count_newcomers: 0,
    divide_by_the_old_weights: 3,
    lose_unused_samples: 3,
    hand_out_samples_twice: 0,
    hold_nobody_for_ahead: 3,
    vote_after_a_higher_promise: 7,
    judge_by_another_history: 71,
}
"""Each with the seed that has caught it: just where to look first."""
