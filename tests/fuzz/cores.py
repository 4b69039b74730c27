"""Level (b): a member of a swarm of production cores in virtual time says anything, in every phase of a round.

The attacker has a core of its own that plays along, so that rounds go on; beside it, in its name and with its
signature, come hostile messages. Where one is refused the link is closed, as the mesh does, and comes up again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

from p2p.protocol.ballot import Ballot
from p2p.protocol.chain import record_hash
from p2p.protocol.effects import Effect
from p2p.protocol.message import Message
from p2p.protocol.messages import (
    Commit,
    Go,
    Mean,
    Part,
    Plan,
    Prepare,
    Promise,
    Record,
    Records,
    SignedRecord,
    Status,
    Vote,
    decode,
    encode,
)
from p2p.protocol.model import BadMessage
from tests.fuzz.hostile import Hostile
from tests.fuzz.storm import Target, footprint, in_short
from tests.sim.virtual_swarm import RULES, Node, VirtualSwarm, sign

KINDS: tuple[type[Message], ...] = (Status, Prepare, Plan, Promise, Commit, Records, Go, Part, Mean)
MEMBERS = 4
FRAMES_PER_SWARM = 400
MAX_CORE_BYTES = 32 << 20
"""Of a core and its books, whatever its peers said: a few of the longest messages of each."""
RECOVERY_SECONDS = 180.0
"""Virtual; from the attacker's end until the others have committed two more rounds."""


class ToughSwarm(VirtualSwarm):
    """A shell that is as hard to stop as the real ones: it drops an early Go that turns out bad (p2p.reduce.reducer),
    and goes on from its own state when nobody has the newer one that was claimed (p2p.member)."""

    overheard: Callable[[Message], None]

    def _fetched(self, node: Node) -> None:
        statuses, board = node.core.board.statuses, node.core.board
        others = [peer for peer in statuses if peer != node.peer and board.alive(peer, self.now)]
        ahead = any(node.core.lead.is_ahead(statuses[peer]) for peer in others)
        if not ahead and not any(node.core.has_our_state(statuses[peer]) for peer in others):
            self._synced(node, board.head, node.root)
        else:
            super()._fetched(node)

    def _check_means(self, node: Node, record: Record) -> None:
        """The liar's means have no content. Whoever takes them for true is poisoned, and all alike: agreement is what
        must hold, as docs/failure-model.md has it."""
        if () not in node.means.values():
            super()._check_means(node, record)

    def close_link(self, victim: Node, peer: str) -> None:
        """What the mesh does about a BadMessage; the link comes up again at once."""
        other = next(node for node in self.nodes if node.peer == peer)
        for one, two in ((victim, other), (other, victim)):
            if one.books is not None:
                one.books.on_link_down(two.peer)
            self._do(one, lambda one=one, two=two: one.core.on_link_down(two.peer, self.now))
            self._do(one, lambda one=one, two=two: one.core.on_link_up(two.peer, self.now))

    def _on_message(self, node: Node, sender: Node, message: Message) -> list[Effect]:
        try:
            return super()._on_message(node, sender, message)
        except BadMessage:
            self.close_link(node, sender.peer)
            return []

    def _on_go(self, node: Node, sender: str, go: Go) -> None:
        self.overheard(go)
        try:
            super()._on_go(node, sender, go)
        except BadMessage:
            self.close_link(node, sender)

    def _on_piece(self, node: Node, sender: str, message: Part | Mean, mean: Any) -> None:
        self.overheard(message)
        try:
            super()._on_piece(node, sender, message, mean)
        except BadMessage:
            self.close_link(node, sender)

    def _start_reduce(self, node: Node, plan: Plan) -> None:
        early, node.early = node.early, []
        super()._start_reduce(node, plan)
        for sender, go in early:
            with suppress(BadMessage):
                self._on_go(node, sender, go)


class CoreStorm:
    """One target: frames against one swarm after the other. Each swarm must get over it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.hostile = Hostile(random)
        self.largest = 0
        self._left = 0
        self._swarm: ToughSwarm

    def targets(self) -> dict[str, tuple[Target, int]]:
        return {"cores": (self.frame, 1)}

    def frame(self) -> str:
        if self._left == 0:
            self._begin()
        self._left -= 1
        swarm, attacker = self._swarm, self._swarm.nodes[-1]
        victim = self.random.choice(swarm.nodes[:-1])
        self._let_time_pass()
        kind = self.random.choice(KINDS)
        message = self.hostile.message(kind)
        if self.random.random() < 0.7:
            message = self._timely(message, attacker, victim)
        if self.random.random() < 0.6:
            message = self._signed(message, attacker.peer)
        outcome = self._say(swarm, attacker, victim, message)
        if self._left == 0:
            self._recover()
        return f"{kind.KIND} {outcome}"

    def _begin(self) -> None:
        ToughSwarm.overheard = staticmethod(self.hostile.learn)
        swarm = ToughSwarm(MEMBERS, self.random.randrange(1 << 30), replace(RULES, min_peers=MEMBERS), 1.0)
        swarm.run_rounds(1)
        for node in swarm.nodes:
            node.core.board.rules = replace(RULES, min_peers=1)
        swarm.on_send = lambda number, sender, to, message: self.hostile.learn(message)
        self._swarm, self._left = swarm, FRAMES_PER_SWARM

    def _let_time_pass(self) -> None:
        """None, a message or two, or seconds: what comes next may hit any phase."""
        swarm = self._swarm
        end = swarm.now + self.random.choice((0.0, 0.0, 0.0, 0.003, 0.02, 0.1, 1.0))
        swarm.at(end - swarm.now, lambda: None)
        swarm.run(lambda: swarm.now >= end, 60.0)

    # --- one frame

    def _timely(self, message: Message, attacker: Node, victim: Node) -> Message:
        """About the round in progress, so that it is not put aside at the first look."""
        board, promised = victim.core.board, victim.core.participant.promised
        if isinstance(message, Status):
            last = board.statuses.get(attacker.peer)
            return message.model_copy(update={"sequence": 1 + (last.sequence if last else 0)})
        if "ballot" not in type(message).model_fields:
            return message
        higher = Ballot(
            round=board.round,
            attempt=self.random.randrange(3) + (promised.attempt if promised else 0),
            rank=board.rank(attacker.peer),
            lineage=board.head.lineage,
        )
        books = victim.books.ballot if victim.books is not None else higher
        return message.model_copy(update={"ballot": self.random.choice((higher, promised or higher, books))})

    def _signed(self, message: Message, attacker: str) -> Message:
        """With the attacker's right signature, where it may sign."""
        if isinstance(message, Commit):
            return message.model_copy(update={"signed": self._signed_record(message.signed, attacker)})
        if isinstance(message, Records):
            records = tuple(self._signed_record(signed, attacker) for signed in message.records[:2])
            return message.model_copy(update={"records": records})
        if isinstance(message, Promise) and message.voted is not None:
            vote = self._vote(message.voted, attacker, message.vote)
            return message.model_copy(update={"vote": vote})
        if isinstance(message, Status) and message.vote is not None:
            signature = sign(attacker, message.vote.record_hash)
            return message.model_copy(update={"vote": message.vote.model_copy(update={"signature": signature})})
        return message

    def _vote(self, record: Record, attacker: str, like: Vote | None) -> Vote:
        digest = record_hash(record)
        return Vote(ballot=like.ballot if like else record.ballot, record_hash=digest, signature=sign(attacker, digest))

    def _signed_record(self, signed: SignedRecord, attacker: str) -> SignedRecord:
        record = signed.record
        seats = [rank for rank, seat in enumerate(record.seats) if seat.peer == attacker][:1]
        digest = record_hash(record)
        return SignedRecord(record=record, signatures=tuple((rank, sign(attacker, digest)) for rank in seats))

    def _say(self, swarm: ToughSwarm, attacker: Node, victim: Node, message: Message) -> str:
        try:
            received = decode(encode(message))
        except BadMessage:
            return "is malformed"
        try:
            self._handle(swarm, attacker, victim, received)
        except BadMessage as error:
            swarm.close_link(victim, attacker.peer)
            return f"refused: {in_short(str(error))}"
        return "taken"

    def _handle(self, swarm: ToughSwarm, attacker: Node, victim: Node, message: Message) -> None:
        if isinstance(message, Go):
            if victim.books is None or victim.books.ballot < message.ballot:  # one a peer is kept until then
                victim.early = [(sender, go) for sender, go in victim.early if sender != attacker.peer]
            VirtualSwarm._on_go(swarm, victim, attacker.peer, message)
        elif isinstance(message, Part | Mean):
            VirtualSwarm._on_piece(swarm, victim, attacker.peer, message, ())
        else:
            for effect in victim.core.on_message(attacker.peer, message, swarm.now):
                swarm._carry_out(victim, effect)

    # --- what must hold

    def _recover(self) -> None:
        """The attacker ends; the others are whole, and go on together."""
        swarm = self._swarm
        honest = swarm.nodes[:-1]
        for node in honest:
            size = footprint(node.core, (swarm,)) + footprint(node.books, (swarm, node.core))
            self.largest = max(self.largest, size)
            assert size < MAX_CORE_BYTES, f"{size >> 20} MiB in the core of one member"
        swarm.kill(swarm.nodes[-1])
        height = max(node.core.board.head.height for node in honest)
        self._run(lambda: all(node.core.board.head.height >= height + 2 for node in honest))
        assert len({record_hash(node.history[height]) for node in honest}) == 1, "one lineage"

    def _run(self, until: Callable[[], bool]) -> None:
        self._swarm.run(until, RECOVERY_SECONDS)
