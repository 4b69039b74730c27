"""The committed round: one node's whole part in it, as a pure state machine.

Inputs are messages, link events, local results and ticks, each with `now` (seconds of any monotonic clock); outputs are
`Effect`s. The rule: a round either commits the same record on all survivors or it has not happened.
"""

from __future__ import annotations

from collections import deque

from p2p.protocol import notes
from p2p.protocol.ballot import Ballot
from p2p.protocol.board import Board
from p2p.protocol.chain import record_hash
from p2p.protocol.coordinator import Coordinator, Verify
from p2p.protocol.effects import Behind, Effect, Send
from p2p.protocol.entrance import Entrance
from p2p.protocol.lead import Lead
from p2p.protocol.liveness import HEARTBEAT_SECONDS
from p2p.protocol.message import Message
from p2p.protocol.messages import (
    Commit,
    GetRecords,
    Phase,
    Plan,
    Prepare,
    Promise,
    Ready,
    Records,
    SignedRecord,
    Status,
)
from p2p.protocol.model import BadMessage, Range
from p2p.protocol.participant import Participant, Reduce, Sign
from p2p.protocol.plan import Head, Rules
from p2p.protocol.shares import UNKNOWN, Rates
from p2p.protocol.watch import Watch

FORGET_SECONDS = 60.0
LOOK_SECONDS = 0.4
"""Between two looks at who is alive and ahead, of who does not drive the round."""
PAUSE_SECONDS = 2.0
"""Between two inputs, ticks among them: longer, and it was we who stood still."""


class RoundCore:
    """The protocol state of one node over all its rounds.

    It starts without state ("syncing") and becomes a member by `on_synced`, then `on_ready` for each round.
    """

    def __init__(self, me: str, rules: Rules, sign: Sign, verify: Verify, reduce: Reduce, now: float) -> None:
        self.me = me
        self.board = Board(me, rules)
        self._sign = sign
        self._verify = verify
        self._reduce = reduce
        self._holds_state = False
        self._leaving = False
        self._state_root = b""
        self._inner_step = 0
        self._rates = UNKNOWN
        self._sequence = 0
        self._hears: tuple[int, ...] = ()
        self._watch = Watch(self.board.liveness)
        self._entrance = Entrance()
        self.lead = Lead(self.board, now)
        self._awake_at = self._forgets_at = now
        self._looked_at = now - LOOK_SECONDS
        self._stood_still: list[Effect] = []
        """Notes of it that are still to be told."""
        self._sent: tuple[object, ...] = ("",) * 6
        """What everybody was told last, and when."""
        self._sent_at = now - HEARTBEAT_SECONDS
        self._told: tuple[str | None, tuple[object, ...]] = (None, ("",) * 6)
        """What the coordinator was told last."""
        self._told_hears: tuple[int, ...] = ()
        """Whom we heard when it was told."""
        self._driving = False
        self._new_round(self.board.head, now, first=False)

    def _new_round(self, head: Head, now: float, *, first: bool) -> None:
        """`first`: we committed the round that led to this head."""
        self.board.follow(head)
        self.participant = Participant(self.board, self._sign, self._reduce)
        self.coordinator = Coordinator(self.board, self._verify, now, first, self._entrance)
        self._inner_step = 0
        self.lead.new_round(now)
        self._post(now)

    @property
    def holds_state(self) -> bool:
        """Whether we hold the state of our head."""
        return self._holds_state

    # --- what the node reports ---

    def begin_at(self, head: Head, now: float) -> None:
        """Before anything else: we come back with the state of this head, and others may be further."""
        self._new_round(head, now, first=False)

    def on_synced(self, head: Head, state_root: bytes, now: float) -> list[Effect]:
        """We hold the state that `head` committed (genesis: the seeded one)."""
        self._wake(now)
        self._holds_state, self._state_root = True, state_root
        self._new_round(head, now, first=False)
        return self._settle([], now)

    def on_ready(self, tokens: int, used: tuple[Range, ...], codes: int, now: float, earlier: int = 0) -> list[Effect]:
        """Training for this round is done (`tokens` and `earlier` 0: we only receive). Needs the state of the head.

        `codes`: a name for those that we give, which no others had that we gave before; 0 for none. `earlier`: tokens
        of earlier rounds whose work is in them, too.
        """
        self._wake(now)
        assert self._holds_state, "a node without state cannot be ready"
        self.participant.ready = Ready(round=self.board.round, tokens=tokens, used=used, codes=codes, earlier=earlier)
        return self._settle([notes.ready(self.board.round, tokens, used)], now)

    def on_progress(self, inner_step: int, rates: Rates = UNKNOWN) -> None:
        """Progress of training, and what our link does: they go out with the next heartbeat."""
        self._inner_step, self._rates = inner_step, rates

    def on_reduced(self, ballot: Ballot, digests: tuple[bytes, ...], now: float) -> list[Effect]:
        """The reduce of `ballot` is complete here, with these span digests."""
        self._wake(now)
        return self._settle(self.participant.on_reduced(ballot, digests), now)

    def on_applied(self, state_root: bytes, now: float) -> list[Effect]:
        """The outer step of the head is applied; `state_root` is what it gave."""
        self._wake(now)
        self._state_root = state_root
        return self._settle([], now)

    def leave(self, now: float) -> list[Effect]:
        """Say that we go: from now on nobody waits for us."""
        self._wake(now)
        self._leaving = True
        return self._settle([], now)

    # --- what the network reports ---

    def on_link_up(self, peer: str, now: float) -> list[Effect]:
        self._wake(now)
        self.board.linked(peer, now)
        self.coordinator.on_link_up(peer)
        self._hears = self.board.liveness.hears(now)
        greeting = Send(peer, self._post(now))
        return self._settle([greeting], now) if self._driving else [greeting]

    def on_link_down(self, peer: str, now: float, reason: str = "") -> list[Effect]:
        self._wake(now)
        self.board.liveness.unlinked(peer, reason)
        return self._look_around(now)

    def on_unreachable(self, peer: str, now: float, reason: str = "") -> list[Effect]:
        self._wake(now)
        self.board.liveness.unreachable(peer, now, reason)
        return self._look_around(now)

    def on_tick(self, now: float) -> list[Effect]:
        """To be called a few times a second; who does not drive the round has to look around half as often."""
        self._wake(now)
        if not self._driving and 0 <= now - self._looked_at < LOOK_SECONDS:
            return []
        return self._look_around(now)

    def _look_around(self, now: float) -> list[Effect]:
        self._looked_at = now
        self._hears = self.board.liveness.hears(now)
        return self._settle([*self._watch.look(self.board.round, now), *self._look_ahead(now)], now)

    def on_message(self, peer: str, message: Message, now: float) -> list[Effect]:
        """A message of an authenticated peer. Raises BadMessage for what no honest peer sends.

        What a status calls for is done here only by a coordinator; for all others the next tick is soon enough.
        """
        self._wake(now)
        if isinstance(message, Status):
            if objection := self.board.objection(peer, message):
                raise BadMessage(f"{message.KIND}: {objection}")
            news = self.board.post(peer, message, now)
            if news:
                self.lead.on_status(peer, message, now)
            return self._settle([], now) if news and self._driving else []
        return self._settle(self._dispatch(peer, message, now), now)

    def _dispatch(self, peer: str, message: Message, now: float) -> list[Effect]:
        match message:
            case Commit():
                return self._on_commit(peer, message.signed, now)
            case Records():
                return self._on_commit(peer, message.records[0], now) if message.records else []
            case Promise():
                return self.coordinator.on_promise(peer, message)
            case Prepare() | Plan() if not self._holds_state or self._leaving:
                return []
            case Prepare() | Plan() if self.lead.outrun(now):  # its sender knows less than we do
                return self.participant.refuse(peer, message, "somebody is further than we are")
            case Prepare():
                return self._voice(peer, self.participant.on_prepare(peer, message), now)
            case Plan():
                return self._voice(peer, self.participant.on_plan(peer, message, self._state_root), now)
        raise BadMessage(f"{message.KIND} is not part of a round")

    def _voice(self, peer: str, effects: list[Effect], now: float) -> list[Effect]:
        """Let whoever asked have our status at once, behind what goes with it."""
        status = self._post(now)
        if peer == self.me:
            return effects
        if self.board.coordinator(now) == peer:
            self._told = (peer, self._said())
        return [*effects, Send(peer, status)]

    def _on_commit(self, peer: str, signed: SignedRecord, now: float) -> list[Effect]:
        record, head = signed.record, self.board.head
        if record.round != head.height + 1 or not self._holds_state:
            return []
        self._check_signatures(signed)
        if record.previous != head.hash or record.fingerprint != self.board.rules.fingerprint:
            if self._heavier(record.tokens_total):
                return self._fall_behind("another lineage committed this round")
            return [notes.refused(record.round, peer, Commit.KIND, "its lineage has no more tokens than ours")]
        effects = self.participant.on_commit(signed)
        if any(isinstance(effect, Behind) for effect in effects):
            self._holds_state = False
            self.lead.missed(record.round, now)
            return effects
        self._state_root = b""
        self._new_round(Head(record.fingerprint, record), now, first=True)
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
        return [*self.participant.stop(), notes.behind(self.board.round, reason), Behind(reason)]

    def _look_ahead(self, now: float) -> list[Effect]:
        """Ask for the next record when somebody alive has it; fall behind when lineage or state is not ours."""
        if not self._holds_state or self._leaving:
            return []
        if self.board.differs(self._state_root, now):
            return self._fall_behind("our state is not what most members hold")
        head = self.board.head
        best = self.lead.to_ask(now)
        if best is None:
            return []
        if (theirs := self.board.statuses[best]).height != head.height + 1:
            far = f"{best} is at round {theirs.height} with {theirs.tokens_total:,} tokens on its lineage"
            return self._fall_behind(f"{far}, we are at round {head.height} with {head.tokens_total:,}")
        question = Send(best, GetRecords(start=head.height + 1, limit=1))
        return [notes.asked_for_record(head.height + 1, best), question]

    def has_our_state(self, status: Status, empty: bool = False) -> bool:
        """Whether its sender holds what a node that fell behind wants: a state further than ours, or our head's.

        `empty`: we hold nothing, so we also want the state before the first record, which others compute.
        """
        same = (empty or self.board.head.record is not None) and status.head == self.board.head.hash
        return bool(status.state_root) and (same or self.lead.is_ahead(status))

    def forget_gone(self, now: float) -> tuple[str, ...]:
        """Peers that have long been gone take up no more room; returns them. They may come back as new ones."""
        if now < self._forgets_at:
            return ()
        self._forgets_at = now + FORGET_SECONDS / 10
        gone = self.board.liveness.gone(FORGET_SECONDS, now)
        for peer in gone:
            self.board.forget(peer)
        return gone

    # --- around every input ---

    def _wake(self, now: float) -> None:
        """Before anything is concluded from the others' silence: whether it is we who were away."""
        still, self._awake_at = now - self._awake_at, now
        if still > PAUSE_SECONDS:
            self.board.liveness.paused(still)
            self.coordinator.rest(now)  # what it waited for may be there, unread
            self._stood_still.append(notes.stood_still(self.board.round, still))

    def _settle(self, effects: list[Effect], now: float) -> list[Effect]:
        """Let the coordinator do what is due and tell the others what changed, until nothing moves any more."""
        queue, result = deque([*self._stood_still, *effects]), list[Effect]()
        self._stood_still.clear()
        for _ in range(10_000):
            if not queue:
                queue.extend(self._speak(now) or self._drive(now))
                if not queue:
                    return result
            effect = queue.popleft()
            if isinstance(effect, Send) and effect.to == self.me:
                queue.extendleft(reversed(self._dispatch(self.me, effect.message, now)))
            else:
                result.append(effect)
        raise AssertionError("the round core does not come to rest")

    def _drive(self, now: float) -> list[Effect]:
        may_drive = self._holds_state and not self._leaving and self.lead.may_drive(now)
        self._driving = may_drive and self.board.coordinator(now) == self.me
        if not self._driving:
            self.coordinator.give_up()
            return []
        vote, voted = self.participant.vote, self.participant.voted
        if vote is not None and voted is not None:
            self.coordinator.know_record(self.me, vote.record_hash, voted)
        return self.coordinator.step(now)

    # --- what we say ---

    def _post(self, now: float) -> Status:
        """Our status as of now, also put up on our own board."""
        self._sequence += 1
        part, head = self.participant, self.board.head
        books = self._reduce() if part.reducing else None
        status = Status(
            sequence=self._sequence,
            height=head.height,
            head=head.hash,
            tokens_total=head.tokens_total,
            state_root=self._state_root if self._holds_state else b"",
            phase=self._phase(),
            inner_step=self._inner_step,
            moved=books.values_came if books else 0,
            promised=part.promised,
            ready=part.ready,
            vote=part.vote,
            hears=self._hears,
            silent=self.board.liveness.silent(now),
            waiting_on=books.waiting_on() if books else (),
            rates=(int(self._rates.up), int(self._rates.down)),
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

    def _said(self) -> tuple[object, ...]:
        part, head = self.participant, self.board.head
        return head.hash, self._state_root, self._phase(), part.promised, part.ready, part.vote

    def _speak(self, now: float) -> list[Effect]:
        """Our status: to everybody with the heartbeat, or when they should know at once; else, when it says anything
        new, to the coordinator, to newcomers when the state has moved that they are fetching, and to those who would
        drive the round next when we miss somebody: all others have time to learn that."""
        said = self._said()
        if now - self._sent_at >= HEARTBEAT_SECONDS or self._urgent(said):
            self._sent, self._sent_at, self._told_hears = said, now, self._hears
            self._told = (self.board.coordinator(now), said)
            return [Send(None, self._post(now))]
        misses = self._misses_more()
        if misses or said != self._told[1]:
            self._post(now)  # it may change who is the coordinator
        told = (self.board.coordinator(now), said)
        if told == self._told and not misses:
            return []
        moved, self._told, self._told_hears = told[1][:2] != self._told[1][:2], told, self._hears
        audience = {told[0]}
        if moved:
            view = self.board.head.view
            audience |= {p for p, s in self.board.statuses.items() if s.phase == "syncing" or p not in view}
        if misses:
            audience.update(self.board.successors())
        return [Send(peer, self.board.statuses[self.me]) for peer in sorted(filter(None, audience - {self.me}))]

    def _urgent(self, said: tuple[object, ...]) -> bool:
        """Of who comes and goes all must know. Before the first view exists, nobody knows who will drive the round."""
        formed = self.board.head.record is not None
        return _special(said[2]) != _special(self._sent[2]) or (not formed and said[4] != self._sent[4])

    def _misses_more(self) -> bool:
        """Whether somebody fell silent whom our last word said we hear."""
        return self._hears != self._told_hears and not set(self._told_hears) <= set(self._hears)


def _special(phase: object) -> object:
    """Phases that change what others do are told from each other, the ordinary course of a round is not."""
    return phase if phase in ("syncing", "leaving") else ""
