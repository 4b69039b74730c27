"""A virtual node: the shell of the committed round, as p2p.member and swarm.node are, with timers instead of tasks."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from p2p.protocol import ledger
from p2p.protocol.ballot import Ballot
from p2p.protocol.chain import MemoryChain
from p2p.protocol.effects import Apply, Behind, CancelReduce, Effect, Note, Send, StartReduce
from p2p.protocol.holdings import Target
from p2p.protocol.message import Message
from p2p.protocol.messages import Commit, GetRecords, Go, Part, Plan, Prepare, Promise, Records, SignedRecord, Status
from p2p.protocol.messages import Mean as MeanMessage
from p2p.protocol.need import Need
from p2p.protocol.plan import Head
from p2p.protocol.round import RoundCore
from p2p.protocol.serving import DeskLimits
from p2p.protocol.shares import UNKNOWN, Rates
from p2p.protocol.transfer_actions import Drop
from p2p.protocol.transfer_messages import (
    Chunk,
    GetChunk,
    GetManifest,
    GetMean,
    Manifest,
    MeanSlice,
    NotAvailable,
    Withdraw,
)
from swarm.simulate.virtual.content import Codes, Mean, hashed, joint_digest
from swarm.simulate.virtual.donor import VirtualDonor
from swarm.simulate.virtual.fetch import VirtualFetch, sizes_for
from swarm.simulate.virtual.host import Host
from swarm.simulate.virtual.reduce import VirtualReducer
from swarm.simulate.virtual.store import VirtualStore
from swarm.simulate.virtual.timeline import TICKS, ticks

if TYPE_CHECKING:
    from swarm.simulate.virtual.world import World

TICK = 250
LOOK = 250
"""How often a node without state looks whether somebody has it."""
START = 100
"""From the start of a process until its first sync."""
APPLY = 20
"""The outer step, and the digests after it."""
INNER_STEP = 50
"""A node told that it is behind ends its inner step first."""
FINISH_SECONDS = 6.0
GOODBYE = 10

Stage = Literal["syncing", "training", "waiting", "left"]


@lru_cache(1 << 15)
def sign(peer: str, digest: bytes) -> bytes:
    """Stands for an Ed25519 signature: 64 bytes."""
    return hashed(peer, digest) * 2


def verify(peer: str, digest: bytes, signature: bytes) -> bool:
    return sign(peer, digest) == signature


class VirtualNode(Host):
    """One process of one node, from its start to its end."""

    def __init__(self, world: World, index: int, peer: str, chain: MemoryChain, *, founds: bool) -> None:
        super().__init__(index, peer, *world.where.place())
        self.world = world
        self.name = f"n{index}"
        self.chain = chain
        self.sizes = sizes_for(world.rules.fragments)
        self.store = VirtualStore(self.sizes)
        self.founds = founds
        self._new_life()
        self.draws = random.Random(f"{world.settings.seed}/node/{index}/{self.life}")
        self.offset = self.draws.uniform(0.0, 600.0)
        self.rate = 1.0 + self.draws.uniform(-2e-4, 2e-4)
        """Its clock, against true time."""
        self.speed = self.draws.uniform(0.8, 1.25)
        """Of its training; less than 1 is faster."""
        self.stage: Stage = "syncing"
        self.leaving = False
        self.behind = False
        self.applying = False
        self.reducer = VirtualReducer(self, world.rules, peer, world.means, world.value_bytes, self._reduced)
        self.core = RoundCore(peer, world.rules, self._sign, verify, self.reducer.progress, self.now())
        self.donor = VirtualDonor(self, DeskLimits())
        self.fetch: VirtualFetch | None = None
        self.need = Need(self.core, chain, lambda round: self.store.round == round, lambda: False)
        self._means: tuple[Ballot, Mapping[int, Mean]] | None = None
        """Of our newest vote, by piece."""
        self._tokens = [0] * len(world.rules.fragments)
        """Trained on since each fragment was averaged, or since we began from the state that others hold."""
        self._began_training = 0
        self._training_ticks = 1

    def start(self) -> None:
        self.world.network.join(self)
        self.after(START, self._look)
        self.after(self.draws.randrange(TICK), self._tick)

    # --- what the shells need ---

    def now(self) -> float:
        return self.offset + self.world.timeline.tick * self.rate / TICKS

    def drift(self, rate: float) -> None:
        """From now on its clock runs at this rate."""
        self.offset += self.world.timeline.tick * (self.rate - rate) / TICKS
        self.rate = rate

    def after(self, delay: int, function: Callable[..., None], one: Any = None, other: Any = None) -> None:
        self.world.timeline.after(delay, self._wake, (function, one, other))

    def _wake(self, action: tuple[Callable[[Any, Any], None], Any, Any], _unused: object) -> None:
        if not self.running:
            return
        if self.frozen:
            self.backlog.append((self._wake, action, None))
            return
        function, one, other = action
        function(one, other)

    def send(self, peer: str, message: Message) -> bool:
        wire = self.wires.get(peer)
        if wire is None or not self.running:
            return False
        self.world.lanes.send(wire, message)
        return True

    def send_bulk(self, peer: str, message: Message, content: object, size: int) -> int | None:
        wire = self.wires.get(peer)
        if wire is None or not self.running:
            return None
        return self.world.lanes.send_bulk(wire, message, content, size) - self.world.timeline.tick

    def _new_life(self) -> None:
        """Whenever it forgets what it voted for: with each process, and each time it falls behind."""
        self.life, self.life_began = self.world.next_life(self.peer), self.world.timeline.tick

    def _sign(self, digest: bytes) -> bytes:
        self.world.voted(self, digest)
        return sign(self.peer, digest)

    # --- from the network ---

    def receive(self, peer: str, message: Message, content: object) -> None:
        if type(message) is Status:
            effects = self.core.on_message(peer, message, self.now())
            if effects:
                self.run(effects)
            return
        match message:
            case Go():
                self.reducer.on_go(peer, message)
            case Part() | MeanMessage():
                self.reducer.on_payload(peer, message, content)
            case Records() if self.fetch is not None:
                self.fetch.on_message(peer, message, None)
            case Prepare() | Plan() | Commit() | Promise() | Records():
                self.run(self.core.on_message(peer, message, self.now()))
            case GetRecords() | GetManifest() | GetChunk() | GetMean():
                self.donor.handle(peer, message)
            case Withdraw():
                self.donor.withdraw(peer, message)
            case Manifest() | Chunk() | MeanSlice() | NotAvailable():
                if self.fetch is not None:
                    self.fetch.on_message(peer, message, content)
            case _:
                raise AssertionError(f"nobody takes {message.KIND}")

    def accuse(self, peer: str, reason: str) -> None:
        self.world.accused(self, peer, reason)

    def link_up(self, peer: str) -> None:
        self.reducer.on_link_up(peer)
        self.run(self.core.on_link_up(peer, self.now()))

    def link_down(self, peer: str, reason: str) -> None:
        self.world.note(self, "peer_down", {"peer": peer, "reason": reason})
        self.reducer.on_link_down(peer)
        self.donor.link_down(peer)
        if self.fetch is not None:
            self.fetch.link_down(peer, reason)
        self.run(self.core.on_link_down(peer, self.now(), reason))

    def unreachable(self, peer: str, reason: str) -> None:
        self.run(self.core.on_unreachable(peer, self.now(), reason))

    def _tick(self, _one: object, _other: object) -> None:
        now = self.now()
        self.core.on_progress(self._inner_step(), self._rates())
        self.run(self.core.on_tick(now))
        self.core.forget_gone(now)
        self.after(TICK, self._tick)

    def _rates(self) -> Rates:
        """What its reduces have shown of its link; nothing before the first."""
        return Rates(self.up * TICKS, self.down * TICKS) if self.core.board.head.height > 0 else UNKNOWN

    def _inner_step(self) -> int:
        if self.stage != "training":
            return 0
        return 100 * (self.world.timeline.tick - self._began_training) // self._training_ticks

    # --- effects ---

    def run(self, effects: list[Effect]) -> None:
        lanes = self.world.lanes
        for effect in effects:
            if not self.running:
                return
            match effect:
                case Send(to, message):
                    if type(message) is Prepare:
                        self.world.asking()
                    if to is None:
                        lanes.broadcast(self.wires.values(), message)
                    else:
                        self.send(to, message)
                case StartReduce(plan):
                    self.world.reducing(plan)
                    self.reducer.start(plan)
                case CancelReduce():
                    self.reducer.cancel()
                case Apply(signed, ballot):
                    self._apply(signed, ballot)
                case Behind():
                    self._miss()
                case Note(event, fields):
                    self.world.note(self, event, fields)

    def _reduced(self, ballot: Ballot, digests: tuple[bytes, ...], means: Mapping[int, Mean]) -> None:
        participant = self.core.participant  # of this round: the vote may be the one that ends it
        effects = self.core.on_reduced(ballot, digests, self.now())
        if participant.vote is not None and participant.vote.ballot == ballot:
            self._means = (ballot, means)
        self.run(effects)

    def _apply(self, signed: SignedRecord, ballot: Ballot) -> None:
        record = signed.record
        means: Mapping[int, Mean] = {}
        if record.steps:
            assert self._means is not None
            assert self._means[0] == ballot
            means = self._means[1]
        self._means = None
        digest = joint_digest(tuple(means[piece].digest for piece in sorted(means)))
        self.world.applied(self, signed, means, digest)
        self.chain.append(signed)
        self.applying = True
        self.after(APPLY, self._applied, signed, digest if record.steps else None)

    def _applied(self, signed: SignedRecord, mean: bytes | None) -> None:
        self.applying = False
        self.store.apply(mean, signed.record.round)
        self._tokens[signed.record.fragment] = 0
        root = self.store.root()
        if self.core.board.head.height == signed.record.round:
            self.world.checker.holds(self.name, self.core.board.head.hash, root)
        self.run(self.core.on_applied(root, self.now()))
        if self.stage == "waiting":
            self._train()

    def _miss(self) -> None:
        self._new_life()
        self.behind = True
        if self.stage in ("training", "waiting"):
            self.after(INNER_STEP if self.stage == "training" else 0, self._begin_sync)
            self.stage = "syncing"

    # --- a round ---

    def _train(self) -> None:
        """Until `_trained`, or until we fall behind."""
        if self.leaving:
            return
        self.stage = "training"
        ranges = ledger.assigned_to(self.core.board.head.ledger, self.peer)
        if not ranges:
            self._trained(self.life, ())
            return
        used = ranges
        if self.draws.random() < self.world.settings.short_share:
            used, _ = ledger.take(ranges, self.draws.randint(1, ledger.size(ranges)))
        seconds = self.world.settings.train_seconds * self.speed * self.draws.uniform(0.95, 1.05)
        self._began_training, self._training_ticks = self.world.timeline.tick, ticks(seconds) + 1
        self.after(self._training_ticks, self._trained, self.life, used)

    def _trained(self, life: int, used: tuple[tuple[int, int], ...]) -> None:
        if life != self.life or self.stage != "training":
            return
        self.stage = "waiting"
        tokens = self.world.settings.sample_tokens * ledger.size(used)
        round = self.core.board.round
        self._tokens = [before + tokens for before in self._tokens]
        weight = self._tokens[self.world.rules.fragments.of_round(round)]
        codes = Codes(self.peer, self.life, round, tokens, used, weight - tokens) if weight else None
        self.reducer.begin_round(codes)
        self.run(self.core.on_ready(tokens, used, self.life if weight else 0, self.now(), weight - tokens))

    # --- state ---

    def _begin_sync(self, _one: object = None, _other: object = None) -> None:
        self.behind = False
        self._look()

    def _look(self, _one: object = None, _other: object = None) -> None:
        """Fetch, if somebody has newer state; else begin with what we have, if we may."""
        if self.stage != "syncing" or self.fetch is not None or self.leaving:
            return
        head = self.core.board.head
        if self.applying:
            pass
        elif self.need.donors(self.now()):
            self._begin_fetch()
            return
        elif self.need.may_begin(self.founds, self.now()):
            self.chain.truncate(head.height)
            self._hold(head)
            return
        self.after(LOOK, self._look)

    def _begin_fetch(self) -> None:
        self.donor.closed_because = "its own state is not whole"
        seed = f"{self.peer}/{self.life}".encode()
        self.fetch = VirtualFetch(self, self.sizes, verify, seed, self.need, self._fetched, self._dropped)

    def _fetched(self, target: Target | None) -> None:
        self.fetch = None
        self.donor.closed_because = ""
        if target is None:
            self._look()
            return
        self.chain.truncate(target.round)
        record = self.chain.record(target.round).record if target.round >= 0 else None
        self._hold(Head(self.world.rules.fingerprint, record))

    def _dropped(self, drop: Drop) -> None:
        self.world.dropped(self, drop)

    def _hold(self, head: Head) -> None:
        """We hold the state of this head: a member again."""
        self._tokens = [0] * len(self._tokens)
        root = self.store.root()
        self.world.checker.holds(self.name, head.hash, root)
        self.world.note(self, "synced", {"round": head.height, "bytes": 0, "seconds": 0.0, "donors": 0})
        self.run(self.core.on_synced(head, root, self.now()))
        if self.core.board.head is head:
            self._train()

    # --- the end ---

    def leave(self) -> None:
        """Finish what the others wait for, then say goodbye."""
        self.leaving = True
        waits = self.stage == "waiting" and self.core.participant.promised is not None
        self._goodbye(self.world.timeline.tick + (ticks(FINISH_SECONDS) if waits else 0), self.core.board.round)

    def _goodbye(self, deadline: int, round: int) -> None:
        if self.core.board.round == round and self.world.timeline.tick < deadline and self.stage == "waiting":
            self.after(GOODBYE, self._goodbye, deadline, round)
            return
        self.stage = "left"
        self.run(self.core.leave(self.now()))
        self.after(GOODBYE, self._end)

    def _end(self, _one: object, _other: object) -> None:
        self.world.network.stop(self, "left")
