"""A whole swarm in virtual time: production cores, virtual links, seeded faults, and rules that never may be broken."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from p2p.protocol.chain import MemoryChain, record_hash
from p2p.protocol.fragments import Fragments
from p2p.protocol.messages import Plan, SignedRecord
from p2p.protocol.plan import Rules
from p2p.protocol.transfer_actions import Drop
from swarm.simulate.virtual.checker import Checker, Signer, Violation
from swarm.simulate.virtual.chronicle import Chronicle
from swarm.simulate.virtual.content import Mean, MeanBook
from swarm.simulate.virtual.lanes import Lanes
from swarm.simulate.virtual.links import Map, noise_table
from swarm.simulate.virtual.names import peer_id
from swarm.simulate.virtual.network import Network
from swarm.simulate.virtual.node import VirtualNode
from swarm.simulate.virtual.presence import Presence
from swarm.simulate.virtual.settings import Settings
from swarm.simulate.virtual.timeline import Timeline

FINGERPRINT = b"virtual swarm".ljust(32, b"\0")
BLOCK = 1024


class World:
    """Runs until somebody tells it to stop; see `run.py`."""

    def __init__(self, settings: Settings, lanes: type[Lanes] = Lanes) -> None:
        self.settings = settings
        count = settings.nodes * settings.blocks_per_node * BLOCK
        self.rules = Rules(
            fingerprint=FINGERPRINT,
            count=count,
            codec="int8",
            block=BLOCK,
            quota=settings.quota,
            min_peers=settings.quorum,
            founders=settings.nodes,
            pieces=settings.pieces,
            cuts=Fragments.equal(count, settings.fragments, BLOCK).bounds[1:-1],
        )
        self.value_bytes = settings.vector_bytes / count
        self.timeline = Timeline()
        self.chronicle = Chronicle()
        self.checker = Checker(FINGERPRINT, self._lives_on)
        self.presence = Presence(self.timeline)
        self.means = MeanBook()
        draws = random.Random(f"{settings.seed}/links")
        self.where = Map(settings.profile, draws)
        noise = noise_table(settings.profile, draws)
        self.lanes = lanes(self.timeline, self.chronicle, noise, encoded=settings.encoded)
        self.network = Network(self.lanes, self.where, draws)
        self.nodes: dict[int, VirtualNode] = {}
        """The present process of each node, by number."""
        self.rounds: set[int] = set()
        """Rounds that somebody has begun to reduce, and the attempts at them, each by ballot and the record before."""
        self.attempts: set[tuple[bytes, tuple[int, int, int]]] = set()
        self.committed_at = 0
        """Tick of the last commit of a round that nobody had committed before."""
        self.on_commit: Callable[[int], None] = lambda _round: None
        self.on_reduce: Callable[[int], None] = lambda _round: None
        """Told of the first commit and the first reduce of each round."""
        self.on_vote: Callable[[], None] = lambda: None
        self.on_attempt: Callable[[], None] = lambda: None
        """Told of the first vote for each record, and whenever a coordinator asks for promises."""
        self._lives: dict[str, int] = {}

    def found(self) -> None:
        """Start all founders within a second or two."""
        draws = random.Random(f"{self.settings.seed}/start")
        for _ in range(self.settings.nodes):
            self.timeline.after(draws.randrange(1000), self._start_founder, len(self._lives), None)
            self._lives[peer_id(len(self._lives))] = 0

    def _start_founder(self, index: int, _unused: object) -> None:
        self.start(index, MemoryChain(FINGERPRINT), founds=True)

    def start(self, index: int, chain: MemoryChain, *, founds: bool = False) -> VirtualNode:
        """Start a process of node `index`."""
        node = VirtualNode(self, index, peer_id(index), chain, founds=founds)
        self.nodes[index] = node
        node.start()
        return node

    def join(self) -> VirtualNode:
        """Start a node that was never there."""
        return self.start(len(self._lives), MemoryChain(FINGERPRINT))

    def live(self) -> list[VirtualNode]:
        """Nodes that run and mean to stay."""
        return [node for node in self.nodes.values() if node.running and not node.frozen and not node.leaving]

    def _lives_on(self, signer: Signer) -> bool:
        return any((node.peer, node.life) == signer and node.running for node in self.nodes.values())

    def next_life(self, peer: str) -> int:
        self._lives[peer] = life = self._lives.get(peer, 0) + 1
        return life

    # --- what nodes report ---

    def note(self, node: VirtualNode, event: str, fields: Mapping[str, object]) -> None:
        self.chronicle.note(self.timeline.tick, node.index, event, dict(fields))

    def reducing(self, plan: Plan) -> None:
        """Some node begins to reduce."""
        self.attempts.add((plan.draft.previous, plan.ballot.key()))
        if plan.ballot.round not in self.rounds:
            self.rounds.add(plan.ballot.round)
            self.on_reduce(plan.ballot.round)

    def voted(self, node: VirtualNode, digest: bytes) -> None:
        """Some node signs a record."""
        if self.checker.voted(node.peer, node.life, digest):
            self.on_vote()

    def asking(self) -> None:
        """Some coordinator asks for promises."""
        self.on_attempt()

    def applied(self, node: VirtualNode, signed: SignedRecord, means: Mapping[int, Mean], digest: bytes) -> None:
        if self.checker.applied(node.name, signed, means, digest):
            if unheard := self.presence.unheard(self.nodes.values(), signed):
                raise Violation(f"round {signed.record.round} is committed without the vote of {', '.join(unheard)}")
            self.presence.committed(record_hash(signed.record))
            if signed.record.round >= self.checker.height:
                self.committed_at = self.timeline.tick
            self.on_commit(signed.record.round)

    def accused(self, node: VirtualNode, peer: str, reason: str) -> None:
        """Nobody honest is ever accused."""
        raise Violation(f"{node.name} refuses an honest message of {peer}: {reason}")

    def dropped(self, node: VirtualNode, drop: Drop) -> None:
        if drop.lied:
            raise Violation(f"{node.name} takes honest {drop.peer} for a liar: it {drop.reason}")
        self.note(node, "donor_dropped", {"peer": drop.peer, "reason": drop.reason})
