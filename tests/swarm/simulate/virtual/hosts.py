"""Hosts that take note of what they are told, and a network of them."""

from __future__ import annotations

import random
from typing import Any

from p2p.protocol.message import Message
from p2p.protocol.model import BadMessage
from p2p.protocol.transfer_messages import GetManifest
from swarm.simulate.virtual.chronicle import Chronicle
from swarm.simulate.virtual.host import Host
from swarm.simulate.virtual.lanes import Lanes
from swarm.simulate.virtual.links import PROFILES, Map, noise_table
from swarm.simulate.virtual.names import peer_id
from swarm.simulate.virtual.network import Network
from swarm.simulate.virtual.timeline import Timeline


class Listener(Host):
    """`heard`: (tick, what)."""

    def __init__(self, index: int, net: Net) -> None:
        super().__init__(index, peer_id(index), *net.network.where.place())
        self.net = net
        self.heard: list[tuple[int, Any]] = []
        self.accused: list[str] = []

    def _note(self, what: Any) -> None:
        self.heard.append((self.net.timeline.tick, what))

    def events(self, kind: type = str) -> list[Any]:
        return [what for _, what in self.heard if isinstance(what, kind)]

    def receive(self, peer: str, message: Message, content: object) -> None:
        if content == "nonsense":
            raise BadMessage("nonsense")
        self._note(message.request if content is None else content)  # type: ignore[attr-defined]

    def accuse(self, peer: str, reason: str) -> None:
        self.accused.append(reason)

    def link_up(self, peer: str) -> None:
        self._note(f"up {int(peer[-4:])}")

    def link_down(self, peer: str, reason: str) -> None:
        self._note(f"down {int(peer[-4:])}: {reason}")

    def unreachable(self, peer: str, reason: str) -> None:
        self._note(f"unreachable {int(peer[-4:])}")


class Net:
    """`count` hosts that have found each other."""

    def __init__(self, count: int, links: str = "lan", seed: int = 0) -> None:
        draws = random.Random(seed)
        self.timeline, self.chronicle = Timeline(), Chronicle()
        self.where = Map(PROFILES[links], draws)
        self.lanes = Lanes(self.timeline, self.chronicle, noise_table(PROFILES[links], draws))
        self.network = Network(self.lanes, self.where, draws)
        self.hosts = [Listener(index, self) for index in range(count)]
        for host in self.hosts:
            self.network.join(host)
        self.run(2.0)
        for host in self.hosts:
            host.heard.clear()

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.timeline.tick + int(1000 * seconds)
        self.timeline.at(end, lambda *_: None)
        while self.timeline.tick < end:
            self.timeline.step()

    def send(self, one: int, other: int, number: int) -> None:
        """A small message."""
        wire = self.hosts[one].wires[self.hosts[other].peer]
        self.lanes.send(wire, GetManifest(request=number, round=0))

    def send_bulk(self, one: int, other: int, content: object, size: int) -> int:
        wire = self.hosts[one].wires[self.hosts[other].peer]
        return self.lanes.send_bulk(wire, GetManifest(request=0, round=0), content, size)
