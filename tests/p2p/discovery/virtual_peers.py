"""Nodes that look for each other in virtual time: the production `Acquaintances`, a crude DHT, links and mishaps.

The DHT is one that knows no more than it must: nodes meet in it only through a bootstrap peer that both have reached,
a store or a look-up misses some of its members, and it can be switched off.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from p2p.channel.acquaintances import Acquaintances, Dial, Tell
from p2p.channel.dialler import NEVER, Setback
from p2p.channel.handshake import Refusal, refusal
from p2p.contact import Contact, SignedContact, sign_contact
from p2p.discovery.contact_entry import TTL_SECONDS
from p2p.discovery.dht_process import FIRST_PAUSE_SECONDS, REDIAL_SECONDS
from p2p.discovery.discovery import ANNOUNCE_SECONDS, EAGER_SECONDS, LOOKUP_SECONDS, STARTING_SECONDS
from p2p.discovery.presence import SAVE_SECONDS
from p2p.identity import Identity

RUN = b"r" * 32
LATENCY = (0.001, 0.15)
SILENT_LOSS_SECONDS = 20.0
"""When a cut link is given up (p2p.channel.connection.DEAD_AFTER_SECONDS)."""


@lru_cache
def identity(index: int) -> Identity:
    return Identity.generate()


@dataclass
class Link:
    """One connection; it lives while both ends say so."""

    ends: tuple[Node, Node]
    alive: bool = True
    arrival: dict[str, float] = field(default_factory=dict)


@dataclass
class Node:
    index: int
    bootstrap: list[int]
    trains: bool = True
    """False: a bootstrap node, in the DHT and nowhere else."""
    dialable: bool = True
    up: bool = False
    life: int = 0
    port: int = 7400
    core: Acquaintances = None  # type: ignore[assignment]  # from `start` on
    links: dict[str, Link] = field(default_factory=dict)
    routes: set[int] = field(default_factory=set)
    store: dict[str, tuple[float, SignedContact]] = field(default_factory=dict)
    memory: list[SignedContact] = field(default_factory=list)
    setbacks: list[Setback] = field(default_factory=list)
    wakes: float = NEVER

    @property
    def peer(self) -> str:
        return identity(self.index).peer_id


class VirtualPeers:
    """`run(until, limit)` lets the time pass; what nodes do in it, and what happens to them, is in the methods."""

    def __init__(self, seed: int, dht: bool = True) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.dht = dht
        self.nodes: list[Node] = []
        self._cut: Callable[[Node, Node], bool] = lambda a, b: False
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    # --- the owner's part

    def add(self, bootstrap: list[int], at: float = 0.0, **options: bool) -> Node:
        node = Node(len(self.nodes), bootstrap, **options)
        self.nodes.append(node)
        self.at(at, lambda: self.start(node))
        return node

    def start(self, node: Node, moved: bool = False) -> None:
        """It begins a life, with what it saved in the last one."""
        node.up, node.life, node.port = True, node.life + 1, node.port + moved
        node.core = Acquaintances(node.peer, RUN, random.Random(self.random.random()))
        node.routes, node.store = set(), {}
        began = self.now
        self._repeat(node, 0.0, lambda tries: self._join(node, tries))
        if not node.trains:
            return
        node.core.introduce_self(self.contact(node), self.now)
        for signed in node.memory:
            node.core.remember(signed, self.now)
        self.wake(node)
        self._repeat(node, 0.0, lambda tries: self._announce(node))
        self._repeat(node, 0.0, lambda tries: self._look_up(node, began))
        self._repeat(node, SAVE_SECONDS, lambda tries: self._save(node))

    def kill(self, node: Node) -> None:
        """Its sockets are closed by its kernel."""
        node.up = False
        for link in tuple(node.links.values()):
            self._lose(link, within=0.05)

    def cut(self, apart: Callable[[Node, Node], bool]) -> None:
        """Nothing passes between these any more; their links are given up some time later."""
        self._cut = apart
        for node in self.nodes:
            for link in tuple(node.links.values()):
                if apart(*link.ends):
                    self._lose(link, within=SILENT_LOSS_SECONDS)

    def heal(self) -> None:
        self._cut = lambda a, b: False

    def linked(self, nodes: Iterable[Node] | None = None) -> bool:
        """Whether all that are up (or these) are linked with each other, and know it on both sides."""
        members = [node for node in nodes or self.nodes if node.up and node.trains]
        return all(b.peer in a.links and a.peer in b.links for a, b in itertools.combinations(members, 2))

    def at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._order), action))

    def run(self, until: Callable[[], bool], limit: float) -> float:
        """The time that passed until the condition held."""
        began = self.now
        while not until():
            when, _, action = heapq.heappop(self._queue)
            assert when <= began + limit, f"not within {limit} s: {self.story()}"
            self.now = when
            action()
        return self.now - began

    def rest(self, seconds: float) -> None:
        end = self.now + seconds
        self.at(seconds, lambda: None)
        self.run(lambda: self.now >= end, seconds)

    def story(self) -> str:
        names = {node.peer: node.index for node in self.nodes}
        return "; ".join(f"{n.index} up={n.up} linked with {sorted(names[p] for p in n.links)}" for n in self.nodes)

    # --- time

    def _later(self, node: Node, delay: float, action: Callable[[], None]) -> None:
        """Something that this life of the node does."""
        life = node.life
        self.at(delay, lambda: action() if node.up and node.life == life else None)

    def _repeat(self, node: Node, delay: float, action: Callable[[int], float], tries: int = 0) -> None:
        def act() -> None:
            self._repeat(node, action(tries), action, tries + 1)

        self._later(node, delay, act)

    def _latency(self) -> float:
        return self.random.uniform(*LATENCY)

    def _reaches(self, a: Node, b: Node) -> bool:
        return a.up and b.up and not self._cut(a, b)

    # --- the DHT

    def _routes(self, node: Node) -> list[Node]:
        """Whom a request of the node reaches; one in ten gets lost."""
        found = [self.nodes[index] for index in sorted(node.routes)]
        return [other for other in found if self._reaches(node, other) and self.random.random() < 0.9]

    def _join(self, node: Node, tries: int) -> float:
        for index in node.bootstrap:
            peer = self.nodes[index]
            if self.dht and self._reaches(node, peer) and peer is not node:
                for other in (peer, *self._routes(peer)):  # it walks on from there
                    if other is not node and self._reaches(node, other):
                        node.routes.add(other.index)
                        other.routes.add(node.index)
        return min(FIRST_PAUSE_SECONDS * 2**tries, REDIAL_SECONDS) + self._latency()

    def _announce(self, node: Node) -> float:
        signed = self.contact(node)
        node.core.introduce_self(signed, self.now)
        for other in (node, *self._routes(node)):
            other.store[node.peer] = (self.now + TTL_SECONDS, signed)
        return ANNOUNCE_SECONDS + self._latency()

    def _look_up(self, node: Node, began: float) -> float:
        found = False
        for other in (node, *self._routes(node)):
            for ends, signed in tuple(other.store.values()):
                if ends > self.now and signed.contact.peer != node.peer and self.dht:
                    found = True
                    self._later(node, self._latency(), lambda signed=signed: node.core.hear(signed, "DHT", self.now))
        self._later(node, LATENCY[1], lambda: self.wake(node))
        eager = not found or self.now - began < STARTING_SECONDS
        return (EAGER_SECONDS if eager else LOOKUP_SECONDS) + LATENCY[1]

    def _save(self, node: Node) -> float:
        node.memory = node.core.met()
        return SAVE_SECONDS

    def contact(self, node: Node) -> SignedContact:
        contact = Contact(
            peer=node.peer,
            p2pd="",
            addresses=(("192.0.2.1", node.port),),
            fingerprint=RUN,
            sequence=int(self.now * 1000) + node.life,
        )
        return sign_contact(identity(node.index), contact)

    # --- the shell that each core would have

    def wake(self, node: Node) -> None:
        when = max(node.core.wake_at(), self.now)
        if when < NEVER:
            self._later(node, when - self.now, lambda: self._step(node))

    def _step(self, node: Node) -> None:
        effects = node.core.step(self.now)
        for effect in effects:
            match effect:
                case Dial(contact):
                    self._later(node, self._latency(), lambda contact=contact: self._dial(node, contact))
                case Tell(peer, contacts):
                    self._send(node, node.links[peer], contacts)
        if effects:
            self.wake(node)

    def _dial(self, node: Node, contact: Contact) -> None:
        peer = next(other for other in self.nodes if other.peer == contact.peer)
        error: Refusal | OSError | None = None
        if self._cut(node, peer):
            error = TimeoutError()
        elif not peer.up or not peer.dialable or contact.addresses[0][1] != peer.port:
            error = ConnectionRefusedError(111, "Connection refused")
        elif peer.peer in node.links or node.peer in peer.links:
            error = refusal("duplicate", "another connection is already in use")
        if error is not None:
            delay = 10.0 if isinstance(error, TimeoutError) else self._latency()
            self._later(node, delay, lambda: self._fail(node, contact.peer, error))
            return
        link = Link((node, peer))
        self._up(peer, node, link)
        self._later(node, self._latency(), lambda: self._up(node, peer, link))

    def _fail(self, node: Node, peer: str, error: Refusal | OSError) -> None:
        node.setbacks += node.core.failed(peer, error, self.now)
        self.wake(node)

    def _up(self, node: Node, other: Node, link: Link) -> None:
        if not link.alive:
            self._fail(node, other.peer, ConnectionResetError(104, "Connection reset by peer"))
            return
        node.links[other.peer] = link
        node.core.link_up(other.peer, True, self.now)
        self.wake(node)

    def _lose(self, link: Link, within: float) -> None:
        link.alive = False
        for end, other in (link.ends, link.ends[::-1]):
            delay = self.random.uniform(0.0, within) if end.up else 0.0
            self.at(delay, lambda end=end, other=other: self._down(end, other, link))

    def _down(self, node: Node, other: Node, link: Link) -> None:
        if node.links.get(other.peer) is not link:
            return
        del node.links[other.peer]
        if node.up:
            node.core.link_down(other.peer, self.now)
            self.wake(node)

    def _send(self, node: Node, link: Link, contacts: tuple[SignedContact, ...]) -> None:
        """In order, after the other end knows of the link; lost if the link is."""
        other = link.ends[link.ends[0] is node]
        when = max(self.now + LATENCY[1] + self._latency(), link.arrival.get(other.peer, 0.0))
        link.arrival[other.peer] = when

        def arrive() -> None:
            if other.links.get(node.peer) is link and link.alive:
                other.core.told(node.peer, contacts, self.now)
                self.wake(other)

        self._later(other, when - self.now, arrive)
