"""A swarm of `RoundCore`s in virtual time: seeded latencies, kills, silences and late joins; no socket, no sleep."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from p2p.protocol import bitmap, ledger
from p2p.protocol.butterfly import Butterfly
from p2p.protocol.carry import NOTHING
from p2p.protocol.chain import record_hash
from p2p.protocol.effects import Apply, Behind, CancelReduce, Effect, Note, Send, StartReduce
from p2p.protocol.message import Message
from p2p.protocol.messages import GetRecords, Go, Part, Plan, Record, Records, SignedRecord, decode, encode
from p2p.protocol.messages import Mean as MeanMessage
from p2p.protocol.pieces import PieceSize
from p2p.protocol.plan import Head, Rules
from p2p.protocol.round import RoundCore

RULES = Rules(
    fingerprint=b"f" * 32,
    count=12_000,
    codec="int8",
    block=16,
    quota=8,
    min_peers=1,
    pieces=PieceSize(smallest=16, largest=10_000, per_span=4),
)
WINDOW = 3000
GENESIS_ROOT = hashlib.sha256(b"genesis").digest()


def peer_name(index: int) -> str:
    return f"12D3KooW{index:044d}"


def sign(peer: str, digest: bytes) -> bytes:
    return hashlib.sha512(peer.encode() + digest).digest()


def verify(peer: str, digest: bytes, signature: bytes) -> bool:
    return sign(peer, digest) == signature


Mean = tuple[tuple[str, int], ...]
"""What went into the mean of a piece: (contributor, weight), in the order of adding."""


def next_root(root: bytes, record: Record) -> bytes:
    return hashlib.sha256(root + record_hash(record)).digest() if record.steps else root


@dataclass
class Node:
    index: int
    core: RoundCore
    running: bool = True
    frozen: bool = False
    root: bytes = GENESIS_ROOT
    history: list[Record] = field(default_factory=list)
    signed: list[SignedRecord] = field(default_factory=list)
    books: Butterfly | None = None
    means: dict[int, Mean] = field(default_factory=dict)
    early: list[tuple[str, Go]] = field(default_factory=list)
    pieces_sent: int = 0
    epoch: int = 0
    leaving: bool = False
    notes: list[Note] = field(default_factory=list)

    @property
    def peer(self) -> str:
        return self.core.me


class VirtualSwarm:
    """Runs the cores against each other. `on_send` may kill nodes at a chosen message: see `messages_sent`."""

    def __init__(self, nodes: int, seed: int = 0, rules: Rules = RULES, train_seconds: float = 5.0) -> None:
        self.rules = rules
        self.random = random.Random(seed)
        self.train_seconds = train_seconds
        self.now = 0.0
        self.messages_sent = 0
        self.on_send: Callable[[int, Node, str, Message], None] = lambda number, sender, to, message: None
        self.nodes: list[Node] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._arrival: dict[tuple[str, str], float] = {}
        self._cuts: set[tuple[str, str]] = set()
        for _ in range(nodes):
            self.add()

    # --- nodes ---

    def add(self, founding: bool = True) -> Node:
        peer = peer_name(len(self.nodes))
        node: Node
        core = RoundCore(peer, self.rules, lambda digest: sign(peer, digest), verify, lambda: node.books, self.now)
        node = Node(len(self.nodes), core)
        others = [other for other in self.nodes if other.running]
        self.nodes.append(node)
        for other in others:
            self._do(node, lambda node=node, other=other: node.core.on_link_up(other.peer, self.now))
            self._do(other, lambda node=node, other=other: other.core.on_link_up(node.peer, self.now))
        self._tick(node)
        if founding:
            self.at(0.01, lambda: self._synced(node, Head(self.rules.fingerprint), GENESIS_ROOT))
        else:
            self._sync(node)
        return node

    def live(self) -> list[Node]:
        return [node for node in self.nodes if node.running and not node.frozen]

    def kill(self, node: Node) -> None:
        """SIGKILL: its links close, redials are refused."""
        node.running = False
        for other in self.live():
            self.at(0.005, lambda other=other: self._do(other, lambda: other.core.on_link_down(node.peer, self.now)))
            self.at(0.01, lambda other=other: self._do(other, lambda: other.core.on_unreachable(node.peer, self.now)))

    def freeze(self, node: Node) -> None:
        """SIGSTOP: silence, with open links."""
        node.frozen = True

    def cut(self, one: list[Node], other: list[Node]) -> None:
        """A partition: no message passes between the two sides, and redials fail."""
        for a, b in itertools.product(one, other):
            self._cuts |= {(a.peer, b.peer), (b.peer, a.peer)}
            for here, there in ((a, b), (b, a)):
                self._do(here, lambda here=here, there=there: here.core.on_link_down(there.peer, self.now))
                self._do(here, lambda here=here, there=there: here.core.on_unreachable(there.peer, self.now))

    def heal(self) -> None:
        """All cut links come up again."""
        pairs, self._cuts = self._cuts, set()
        nodes = {node.peer: node for node in self.nodes}
        for a, b in sorted(pairs):
            self._do(nodes[a], lambda a=a, b=b: nodes[a].core.on_link_up(b, self.now))

    def leave(self, node: Node) -> None:
        node.leaving = True
        self._do(node, lambda: node.core.leave(self.now))
        node.running = False

    # --- time ---

    def at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._order), action))

    def run(self, until: Callable[[], bool], limit: float) -> None:
        """Advance until the condition holds; fails after `limit` virtual seconds."""
        deadline = self.now + limit
        while not until():
            assert self._queue, "nothing is left to happen"
            self.now, _, action = heapq.heappop(self._queue)
            assert self.now <= deadline, f"not within {limit} s: {self.story()}"
            action()

    def run_rounds(self, height: int, limit: float = 120.0) -> None:
        """Until every live node has applied the record `height`."""
        self.run(lambda: all(node.core.board.head.height >= height for node in self.live()), limit)

    def story(self) -> str:
        lines = [
            f"{node.index}: height {node.core.board.head.height} {node.core.board.statuses[node.peer].phase} "
            f"promised {node.core.participant.promised} notes {[(n.event, n.fields) for n in node.notes[-4:]]}"
            for node in self.nodes
        ]
        return f"t={self.now:.2f}\n" + "\n".join(lines)

    def _tick(self, node: Node) -> None:
        if node.running:
            self._do(node, lambda: node.core.on_tick(self.now))
            self.at(0.25, lambda: self._tick(node))

    # --- the shell that each core would have ---

    def _do(self, node: Node, step: Callable[[], list[Effect]]) -> None:
        if not node.running or node.frozen:
            return
        for effect in step():
            self._carry_out(node, effect)

    def _carry_out(self, node: Node, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                for other in self.nodes:
                    if other is not node and to in (None, other.peer):
                        self._send(node, other, message)
            case StartReduce(plan):
                self._start_reduce(node, plan)
            case CancelReduce():
                pass
            case Apply(signed):
                node.history.append(signed.record)
                node.signed.append(signed)
                self._check_means(node, signed.record)
                node.books = None
                node.root = next_root(node.root, signed.record)
                self._later(node, 0.02, lambda: self._applied(node))
            case Behind():
                self._sync(node)
            case Note():
                node.notes.append(effect)

    def _send(self, sender: Node, receiver: Node, message: Message) -> None:
        if not sender.running:
            return
        self.messages_sent += 1
        self.on_send(self.messages_sent, sender, receiver.peer, message)
        if not sender.running:
            return
        wire = encode(message)
        self._deliver(
            sender,
            receiver,
            lambda: self._do(receiver, lambda: self._on_message(receiver, sender, decode(wire))),
        )

    def _on_message(self, node: Node, sender: Node, message: Message) -> list[Effect]:
        if not isinstance(message, GetRecords):
            return node.core.on_message(sender.peer, message, self.now)
        records = tuple(node.signed[message.start : message.start + message.limit])
        return [Send(sender.peer, Records(start=message.start, records=records))]

    def _deliver(self, sender: Node, receiver: Node, action: Callable[[], None]) -> None:
        """In order on each link, after a random latency; what a sender sent before it died still arrives."""
        pair = (sender.peer, receiver.peer)
        if pair in self._cuts:
            return
        when = max(self.now + self.random.uniform(0.001, 0.05), self._arrival.get(pair, 0.0))
        self._arrival[pair] = when
        self.at(when - self.now, action)

    # --- the reduce ---

    def _start_reduce(self, node: Node, plan: Plan) -> None:
        carried = node.books.carried_to(plan) if node.books is not None else NOTHING
        node.means = {piece: node.means[piece] for piece in carried.means}
        node.books = Butterfly(plan, node.peer, self.rules.count, WINDOW, carried)
        for piece in node.books.to_encode():
            node.books.encoded(piece)
        early, node.early = node.early, []
        for sender, go in early:
            self._on_go(node, sender, go)
        self._pump(node)

    def _on_go(self, node: Node, sender: str, go: Go) -> None:
        if node.books is None or node.books.ballot < go.ballot:
            node.early.append((sender, go))
        elif node.books.ballot == go.ballot:
            node.books.on_go(sender, go)
            self._pump(node)

    def _on_piece(self, node: Node, sender: str, message: Part | MeanMessage, mean: Mean | None) -> None:
        books = node.books
        if books is None or books.ballot != message.ballot or books.expect(sender, message) is None:
            return
        piece = books.arrived(sender, message)
        if mean is not None and piece is not None:
            node.means[piece] = mean
        self._pump(node)

    def _pump(self, node: Node) -> None:
        """Reduce what is there, send what may be sent, and vote when it is all there."""
        books = node.books
        assert books is not None
        while pieces := books.ready(100):
            for piece in pieces:
                books.reduced(piece)
                stretch = books.routes.of(piece)
                names = (books.members[rank] for rank in stretch.contributors)
                node.means[piece] = tuple(zip(names, map(int, stretch.weights), strict=True))
        for peer, go in books.gos():
            self._to(node, peer, lambda other, go=go: self._on_go(other, node.peer, go))
        for peer in books.voters:
            while peer != node.peer and (message := books.message_for(peer)) is not None:
                node.pieces_sent += 1
                piece = books.grid.find(message.start, message.stop)
                mean = node.means[piece] if isinstance(message, MeanMessage) else None
                self._to(node, peer, lambda other, m=message, mean=mean: self._on_piece(other, node.peer, m, mean))
        if books.complete and node.core.participant.reducing:
            digests = tuple(
                hashlib.sha256(repr([node.means[p] for p in range(s.first, s.stop)]).encode()).digest()
                for s in books.routes.stretches
            )
            self._do(node, lambda: node.core.on_reduced(books.ballot, digests, self.now))

    def _to(self, sender: Node, peer: str, action: Callable[[Node], None]) -> None:
        other = next(other for other in self.nodes if other.peer == peer)

        def arrive() -> None:
            if other.running and not other.frozen:
                action(other)

        if sender.running:
            self._deliver(sender, other, arrive)

    def _check_means(self, node: Node, record: Record) -> None:
        """The mean of every piece has exactly the weights that the record gives to its contributors."""
        first = 0
        for segment in record.segments:
            stop = -(-segment.stop // record.piece)
            seats = [record.seats[rank] for rank in bitmap.unpack(segment.contributors)]
            for piece in range(first, stop):
                assert node.means[piece] == tuple((seat.peer, seat.tokens) for seat in seats)
            first = stop

    def _later(self, node: Node, delay: float, action: Callable[[], None]) -> None:
        """An action of the node's own, void if it has synced to something else meanwhile."""
        node.epoch += 1
        epoch = node.epoch
        self.at(delay, lambda: action() if node.epoch == epoch and node.running and not node.frozen else None)

    def _applied(self, node: Node) -> None:
        self._do(node, lambda: node.core.on_applied(node.root, self.now))
        self._later(node, self.train_seconds * self.random.uniform(0.8, 1.2), lambda: self._trained(node))

    def _trained(self, node: Node) -> None:
        used = ledger.assigned_to(node.core.board.head.ledger, node.peer)
        self._do(node, lambda: node.core.on_ready(ledger.size(used) * 10, used, 1, self.now))

    def _synced(self, node: Node, head: Head, root: bytes) -> None:
        node.root = root
        self._do(node, lambda: node.core.on_synced(head, root, self.now))
        if node.core.board.head.height == head.height:
            self._do(node, lambda: node.core.on_ready(0, (), 0, self.now))

    def _sync(self, node: Node) -> None:
        """State transfer, as an oracle: after a while the node holds what the most advanced live member holds."""
        node.books = None
        self._later(node, 0.5, lambda: self._fetched(node))

    def _fetched(self, node: Node) -> None:
        others = (other for other in self.live() if other is not node and (other.peer, node.peer) not in self._cuts)
        donors = [other for other in others if other.core.holds_state]
        if not donors:
            self._sync(node)
            return
        best = max(donors, key=lambda other: other.core.board.head.tokens_total)
        node.history, node.signed = list(best.history), list(best.signed)
        self._synced(node, best.core.board.head, best.root)

    # --- what must always hold ---

    def check(self) -> None:
        """One record a round, one state a record, and a ledger in which no sample is committed twice or lost."""
        longest = max((node.history for node in self.nodes), key=len)
        for node in self.nodes:
            assert [record_hash(r) for r in node.history] == [record_hash(r) for r in longest[: len(node.history)]]
        committed: list[tuple[int, int]] = []
        for record in longest:
            committed += [span for seat in record.seats for span in seat.used]
            outstanding = [span for assignment in record.ledger.assigned for span in assignment.ranges]
            everything = [*committed, *record.ledger.free, *outstanding]
            assert ledger.size(everything) == record.ledger.cursor
            assert ledger.merged(everything) == ((0, record.ledger.cursor),) if record.ledger.cursor else not everything
