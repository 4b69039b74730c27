"""A member's side of the committed round: promise, reduce, vote, apply. Pure.

Its promises and votes live in the status that it posts; a coordinator reads them from there.
"""

from __future__ import annotations

from collections.abc import Callable

from p2p.protocol.board import Board
from p2p.protocol.chain import record_hash
from p2p.protocol.effects import Apply, Behind, CancelReduce, Effect, Note, Send, StartReduce
from p2p.protocol.messages import Ballot, Plan, Prepare, Ready, Record, SignedRecord, Vote, Voted
from p2p.protocol.plan import BadPlan, check

Sign = Callable[[bytes], bytes]
"""record hash -> our Ed25519 signature."""


class Participant:
    """Our part in one round; a fresh one is made for each."""

    def __init__(self, board: Board, sign: Sign) -> None:
        self.board = board
        self.sign = sign
        self.ready: Ready | None = None
        self.promised: Ballot | None = None
        self.draft: Record | None = None
        """The plan that we are reducing."""
        self.voted: Record | None = None
        """The record of our highest vote; we hold its mean."""
        self.vote: Vote | None = None

    @property
    def reducing(self) -> bool:
        return self.draft is not None

    def on_prepare(self, sender: str, message: Prepare) -> list[Effect]:
        """Promise the ballot if it is the highest we saw, and report our vote."""
        if not self._may_promise(sender, message.ballot) or message.head != self.board.head.hash:
            return []
        effects = self.stop() if message.ballot != self.promised else []
        self.promised = message.ballot
        if self.voted is not None and self.vote is not None:
            effects.append(Send(sender, Voted(record=self.voted, signature=self.vote.signature)))
        return effects

    def on_plan(self, sender: str, message: Plan, state_root: bytes) -> list[Effect]:
        """Begin to reduce a sound plan of the highest ballot we saw."""
        plan = message.draft
        if not self._may_promise(sender, plan.ballot) or plan.ballot == self._planned():
            return []
        try:
            check(self.board.rules, self.board.head, plan, self.board.me, self.ready, state_root)
        except BadPlan as error:
            return [Note("refused_plan", {"round": plan.round, "peer": sender, "reason": str(error)})]
        self.promised = plan.ballot
        self.draft = plan
        if plan.steps:
            return [StartReduce(plan)]
        return self.on_reduced(plan.ballot, ())

    def _planned(self) -> Ballot | None:
        if self.draft is not None:
            return self.draft.ballot
        return self.vote.ballot if self.vote else None

    def _may_promise(self, sender: str, ballot: Ballot) -> bool:
        if ballot.round != self.board.round or ballot.rank != self.board.rank(sender):
            return False
        return self.promised is None or self.promised <= ballot

    def on_reduced(self, ballot: Ballot, digests: tuple[bytes, ...]) -> list[Effect]:
        """We hold every mean byte of the attempt: sign the record and vote, unless a higher ballot came."""
        if self.draft is None or self.draft.ballot != ballot or self.promised != ballot:
            return []
        self.voted = self.draft.model_copy(update={"digests": digests})
        self.draft = None
        digest = record_hash(self.voted)
        self.vote = Vote(ballot=ballot, record_hash=digest, signature=self.sign(digest))
        return []

    def on_commit(self, signed: SignedRecord) -> list[Effect]:
        """The round is committed: apply it if we voted for it, else fetch what we miss."""
        effects = self.stop()
        if self.vote is not None and self.vote.record_hash == record_hash(signed.record):
            return [*effects, Apply(signed)]
        return [*effects, Behind(f"round {signed.record.round} was committed without us")]

    def stop(self) -> list[Effect]:
        """End the running reduce, if any."""
        running, self.draft = self.draft, None
        return [] if running is None else [CancelReduce()]
