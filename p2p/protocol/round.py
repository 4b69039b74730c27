"""The committed round: one node's whole part in it, as a pure state machine.

Inputs are messages, link events, local results and ticks, each with `now` (seconds of any monotonic clock); outputs are
`Effect`s. The rule: a round either commits the same record on all survivors or it has not happened.
"""

from __future__ import annotations

from p2p.protocol.board import Board
from p2p.protocol.chain import record_hash
from p2p.protocol.coordinator import Coordinator, Verify
from p2p.protocol.effects import Behind, Effect, Send
from p2p.protocol.liveness import HEARTBEAT_SECONDS
from p2p.protocol.messages import (
    Ballot,
    Commit,
    GetRecords,
    Message,
    Phase,
    Plan,
    Prepare,
    Ready,
    Records,
    SignedRecord,
    Status,
    Voted,
)
from p2p.protocol.model import BadMessage, Range
from p2p.protocol.participant import Participant, Sign
from p2p.protocol.plan import Head, Rules

FORGET_SECONDS = 60.0
ASK_SECONDS = 0.5
"""How long a commit that others already have may still be on its way to us before we ask for it."""


class RoundCore:
    """The protocol state of one node over all its rounds.

    It starts without state ("syncing") and becomes a member by `on_synced`, then `on_ready` for each round.
    """

    def __init__(self, me: str, rules: Rules, sign: Sign, verify: Verify, now: float) -> None:
        self.me = me
        self.board = Board(me, rules)
        self._sign = sign
        self._verify = verify
        self._holds_state = False
        self._leaving = False
        self._state_root = b""
        self._inner_step = 0
        self._reduced = 0
        self._waiting_on: tuple[str, ...] = ()
        self._sequence = 0
        self._sent: tuple[object, ...] = ()
        self._sent_at = now - HEARTBEAT_SECONDS
        self._asked_at = now
        self._ahead_since: float | None = None
        self._new_round(self.board.head, now)

    def _new_round(self, head: Head, now: float) -> None:
        self.board.head = head
        self.participant = Participant(self.board, self._sign)
        self.coordinator = Coordinator(self.board, self._verify, now)
        self._inner_step = self._reduced = 0
        self._waiting_on = ()
        self._ahead_since = None
        self._post(now)

    # --- what the node reports ---

    def begin_at(self, head: Head, now: float) -> None:
        """Before anything else: we come back with the state of this head, and others may be further."""
        self._new_round(head, now)

    def on_synced(self, head: Head, state_root: bytes, now: float) -> list[Effect]:
        """We hold the state that `head` committed (genesis: the seeded one)."""
        self._holds_state, self._state_root = True, state_root
        self._new_round(head, now)
        return self._settle([], now)

    def on_ready(self, tokens: int, used: tuple[Range, ...], now: float) -> list[Effect]:
        """Training for this round is done (`tokens` 0: we only receive). Needs the state of the head."""
        assert self._holds_state, "a node without state cannot be ready"
        self.participant.ready = Ready(round=self.board.round, tokens=tokens, used=used)
        return self._settle([], now)

    def on_progress(self, inner_step: int, reduced: int, waiting_on: tuple[str, ...]) -> None:
        """Progress of training and reduce: goes out with the next heartbeat."""
        self._inner_step, self._reduced, self._waiting_on = inner_step, reduced, waiting_on

    def on_reduced(self, ballot: Ballot, digests: tuple[bytes, ...], now: float) -> list[Effect]:
        """The reduce of `ballot` is complete here, with these span digests."""
        return self._settle(self.participant.on_reduced(ballot, digests), now)

    def on_applied(self, state_root: bytes, now: float) -> list[Effect]:
        """The outer step of the head is applied; `state_root` is what it gave."""
        self._state_root = state_root
        return self._settle([], now)

    def leave(self, now: float) -> list[Effect]:
        """Say that we go: from now on nobody waits for us."""
        self._leaving = True
        return self._settle([], now)

    # --- what the network reports ---

    def on_link_up(self, peer: str, now: float) -> list[Effect]:
        self.board.liveness.linked(peer, now)
        self.board.statuses.pop(peer, None)  # a restarted peer counts its statuses from the beginning
        return [Send(peer, self._post(now)), *self._settle([], now)]

    def on_link_down(self, peer: str, now: float) -> list[Effect]:
        self.board.liveness.unlinked(peer)
        return self._settle([], now)

    def on_unreachable(self, peer: str, now: float) -> list[Effect]:
        self.board.liveness.unreachable(peer, now)
        return self._settle([], now)

    def on_tick(self, now: float) -> list[Effect]:
        """To be called a few times a second."""
        return self._settle([], now)

    def on_message(self, peer: str, message: Message, now: float) -> list[Effect]:
        """A message of an authenticated peer. Raises BadMessage for what no honest peer sends."""
        return self._settle(self._dispatch(peer, message, now), now)

    def _dispatch(self, peer: str, message: Message, now: float) -> list[Effect]:
        match message:
            case Status():
                self.board.post(peer, message, now)
                return []
            case Commit():
                return self._on_commit(message.signed, now)
            case Records():
                return self._on_commit(message.records[0], now) if message.records else []
            case Voted():
                self.coordinator.on_voted(peer, message)
                return []
            case Prepare() if self._holds_state and not self._leaving:
                return self._voice(self.participant.on_prepare(peer, message), now)
            case Plan() if self._holds_state and not self._leaving:
                return self._voice(self.participant.on_plan(peer, message, self._state_root), now)
            case Prepare() | Plan():
                return []
        raise BadMessage(f"{message.KIND} is not part of a round")

    def _voice(self, effects: list[Effect], now: float) -> list[Effect]:
        """Put our status after what goes with it, so that a coordinator reads the record of a vote before the vote."""
        return [*effects, *self._heartbeat(now)]

    def _on_commit(self, signed: SignedRecord, now: float) -> list[Effect]:
        record, head = signed.record, self.board.head
        if record.round != head.height + 1 or not self._holds_state:
            return []
        self._check_signatures(signed)
        if record.previous != head.hash or record.fingerprint != self.board.rules.fingerprint:
            return (
                self._fall_behind("another lineage committed this round") if self._heavier(record.tokens_total) else []
            )
        effects = self.participant.on_commit(signed)
        if any(isinstance(effect, Behind) for effect in effects):
            self._holds_state = False
            return effects
        self._state_root = b""
        self._new_round(Head(record.fingerprint, record), now)
        return effects

    def _check_signatures(self, signed: SignedRecord) -> None:
        digest, members = record_hash(signed.record), signed.record.members
        if not signed.signatures:
            raise BadMessage("a commit without signatures")
        for rank, signature in signed.signatures:
            if rank >= len(members) or not self._verify(members[rank], digest, signature):
                raise BadMessage("a commit with a wrong signature")

    # --- falling behind ---

    def _heavier(self, tokens_total: int) -> bool:
        return tokens_total > self.board.head.tokens_total

    def _fall_behind(self, reason: str) -> list[Effect]:
        self._holds_state = False
        return [*self.participant.stop(), Behind(reason)]

    def _look_ahead(self, now: float) -> list[Effect]:
        """Ask for the next record when somebody alive has it; fall behind when their lineage is another."""
        if not self._holds_state or self._leaving:
            return []
        head = self.board.head
        ahead = [
            peer
            for peer, status in self.board.statuses.items()
            if self.is_ahead(status) and self.board.alive(peer, now)
        ]
        if not ahead:
            self._ahead_since = None
            return []
        if self._ahead_since is None:
            self._ahead_since = now
        if now - self._ahead_since < ASK_SECONDS or now - self._asked_at < ASK_SECONDS:
            return []
        self._asked_at = now
        best = max(ahead, key=lambda peer: (self.board.statuses[peer].tokens_total, self.board.statuses[peer].height))
        if self.board.statuses[best].height != head.height + 1:
            return self._fall_behind("the swarm is rounds ahead, or on a heavier lineage")
        return [Send(best, GetRecords(start=head.height + 1, limit=1))]

    def is_ahead(self, status: Status) -> bool:
        """Whether its sender is further than we are: more tokens committed, then more rounds, then the smaller hash.

        So of two lineages that grew apart in a partition, all members choose the same one.
        """
        head = self.board.head
        theirs, ours = (status.tokens_total, status.height), (head.tokens_total, head.height)
        return theirs > ours or (theirs == ours and status.head < head.hash)

    def forget_gone(self, now: float) -> tuple[str, ...]:
        """Peers that have long been gone take up no more room; returns them. They may come back as new ones."""
        gone = self.board.liveness.gone(FORGET_SECONDS, now)
        for peer in gone:
            self.board.liveness.forget(peer)
            self.board.statuses.pop(peer, None)
        return gone

    # --- after every input ---

    def _settle(self, effects: list[Effect], now: float) -> list[Effect]:
        """Let the coordinator do what is due and tell the others what changed, until nothing moves any more."""
        queue, result = list(effects), list[Effect]()
        for _ in range(100):
            for effect in queue:
                if isinstance(effect, Send) and effect.to == self.me:
                    result += self._dispatch(self.me, effect.message, now)
                else:
                    result.append(effect)
            queue = self._heartbeat(now) + self._look_ahead(now) or self._drive(now)
            if not queue:
                return result
        raise AssertionError("the round core does not come to rest")

    def _drive(self, now: float) -> list[Effect]:
        if not self._holds_state or self._leaving:
            return []
        vote, voted = self.participant.vote, self.participant.voted
        if vote is not None and voted is not None:
            self.coordinator.reports[vote.record_hash] = voted
        if self.board.coordinator(now) != self.me:
            self.coordinator.ballot = self.coordinator.plan = None
            return []
        return self.coordinator.step(now)

    def _post(self, now: float) -> Status:
        """Our status as of now, also put up on our own board."""
        self._sequence += 1
        part, head = self.participant, self.board.head
        status = Status(
            sequence=self._sequence,
            height=head.height,
            head=head.hash,
            tokens_total=head.tokens_total,
            state_root=self._state_root if self._holds_state else b"",
            phase=self._phase(),
            inner_step=self._inner_step,
            reduced=self._reduced,
            promised=part.promised,
            ready=part.ready,
            vote=part.vote,
            hears=self.board.liveness.hears(now),
            silent=self.board.liveness.silent(now),
            waiting_on=self._waiting_on,
        )
        self.board.post(self.me, status, now)
        return status

    def _phase(self) -> Phase:
        part = self.participant
        if self._leaving:
            return "leaving"
        if not self._holds_state:
            return "syncing"
        if part.reducing:
            return "reducing"
        if part.vote is not None and part.vote.ballot == part.promised:
            return "voted"
        return "training" if part.ready is None else "ready"

    def _heartbeat(self, now: float) -> list[Effect]:
        part = self.participant
        hears = self.board.liveness.hears(now)
        said = (self.board.head.hash, self._state_root, self._phase(), part.promised, part.ready, part.vote, hears)
        if said == self._sent and now - self._sent_at < HEARTBEAT_SECONDS:
            return []
        self._sent, self._sent_at = said, now
        return [Send(None, self._post(now))]
