"""A member's side of the committed round: promise, reduce, vote, apply. Pure.

Its promises and votes live in the status that it posts; a coordinator reads them from there. What its reduce has
brought so far goes out with each promise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from p2p.protocol import notes
from p2p.protocol.ballot import Ballot
from p2p.protocol.board import Board
from p2p.protocol.chain import record_hash
from p2p.protocol.effects import Apply, Behind, CancelReduce, Effect, Note, Send, StartReduce
from p2p.protocol.messages import Plan, Prepare, Promise, Ready, Record, SignedRecord, Vote
from p2p.protocol.plan import BadPlan, check

MOST_REFUSALS = 8
"""Told of one sender in a round: whoever gives cause for more makes noise."""
Sign = Callable[[bytes], bytes]
"""record hash -> our Ed25519 signature."""


class Books(Protocol):
    """What the round needs to know of a reduce; p2p.protocol.butterfly.Butterfly has it."""

    @property
    def ballot(self) -> Ballot: ...
    @property
    def values_came(self) -> int: ...
    def waiting_on(self) -> tuple[str, ...]: ...
    def leading_means(self) -> tuple[int, ...]: ...
    def leading_parts(self) -> tuple[tuple[int, ...], ...]: ...


Reduce = Callable[[], Books | None]
"""The newest attempt at a reduce in this round, whether it goes on or was stopped; None before the first."""


class Participant:
    """Our part in one round; a fresh one is made for each."""

    def __init__(self, board: Board, sign: Sign, reduce: Reduce) -> None:
        self.board = board
        self.sign = sign
        self.reduce = reduce
        self.ready: Ready | None = None
        self.promised: Ballot | None = None
        self.plan: Plan | None = None
        """The newest plan that we took up."""
        self.reducing = False
        self.voted: Record | None = None
        """The record of our newest vote; we hold its mean."""
        self.vote: Vote | None = None
        self._refused: dict[str, list[Note]] = {}
        """What was refused to whom in this round."""

    def on_prepare(self, sender: str, message: Prepare) -> list[Effect]:
        """Promise the ballot if it is the highest we saw, and report what we have."""
        if objection := self._objection(sender, message.ballot):
            return self.refuse(sender, message, objection)
        means, parts = self._progress()
        effects = self.stop() if message.ballot != self.promised else []
        if effects and sender != self.board.me:
            effects.append(notes.superseded(message.ballot, sender))
        self.promised = message.ballot
        promise = Promise(
            ballot=message.ballot,
            ready=self.ready,
            plan=self.plan,
            means=means,
            parts=parts,
            vote=self.vote,
            voted=self.voted,
        )
        return [*effects, Send(sender, promise)]

    def _progress(self) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        books = self.reduce()
        if books is None or self.plan is None or books.ballot != self.plan.ballot:
            return (), ()
        return books.leading_means(), books.leading_parts()

    def on_plan(self, sender: str, message: Plan, state_root: bytes) -> list[Effect]:
        """Begin to reduce a sound plan of the highest ballot we saw."""
        if objection := self._objection(sender, message.ballot):
            return self.refuse(sender, message, objection)
        if self.plan and self.plan.ballot == message.ballot:
            return []
        try:
            check(self.board.rules, self.board.head, message, self.board.me, self.ready, state_root)
        except BadPlan as error:
            reason = {"round": message.draft.round, "peer": sender, "reason": str(error)}
            return [Note("refused_plan", reason)]
        self.promised, self.plan, self.reducing = message.ballot, message, True
        note = notes.reducing(message, sender)
        if message.draft.steps:
            return [note, StartReduce(message)]
        return [note, *self.on_reduced(message.ballot, ())]

    def _objection(self, sender: str, ballot: Ballot) -> str:
        """Why we may not follow this ballot; empty if we may."""
        if ballot.round != self.board.round:
            return f"it is about round {ballot.round}, and we are in round {self.board.round}"
        if ballot.lineage != self.board.head.lineage:
            return "it follows another head"
        if ballot.rank != self.board.rank(sender):
            return "its ballot belongs to somebody else"
        if not self.board.in_reach(ballot):
            return f"no swarm gets to attempt {ballot.attempt}"
        if self.promised is not None and ballot < self.promised:
            return f"we have promised to follow attempt {self.promised.attempt} of rank {self.promised.rank}"
        return ""

    def refuse(self, sender: str, message: Prepare | Plan, reason: str) -> list[Effect]:
        """Say so, once: whoever gets no answer asks again and again."""
        note = notes.refused(self.board.round, sender, message.KIND, reason)
        told = self._refused.setdefault(sender, [])
        if note in told or len(told) >= MOST_REFUSALS:
            return []
        told.append(note)
        return [note]

    def on_reduced(self, ballot: Ballot, digests: tuple[bytes, ...]) -> list[Effect]:
        """We hold every mean byte of the attempt: sign the record and vote, unless a higher ballot came."""
        if not self.reducing or self.plan is None or self.plan.ballot != ballot or self.promised != ballot:
            return []
        self.voted = self.plan.draft.with_digests(digests)
        self.reducing = False
        digest = record_hash(self.voted)
        self.vote = Vote(ballot=ballot, record_hash=digest, signature=self.sign(digest))
        return [notes.voted(ballot, digest)]

    def on_commit(self, signed: SignedRecord) -> list[Effect]:
        """The round is committed: apply it if we voted for it, else fetch what we miss."""
        effects = self.stop()
        if self.vote is not None and self.vote.record_hash == record_hash(signed.record):
            return [*effects, notes.committed(signed), Apply(signed, self.vote.ballot)]
        reason = f"round {signed.record.round} was committed without us"
        return [*effects, notes.behind(self.board.round, reason), Behind(reason)]

    def stop(self) -> list[Effect]:
        """End the running reduce, if any."""
        running, self.reducing = self.reducing, False
        return [CancelReduce()] if running else []
