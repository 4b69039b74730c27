"""Stops nodes at any chosen moment of a round: before a message is sent, and before it is delivered.

The moment after a message is the moment before the next one, of which a broadcast to three others is three.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from p2p.protocol.message import Message
from swarm.simulate.virtual.host import Wire
from swarm.simulate.virtual.lanes import Lanes
from swarm.simulate.virtual.settings import Settings
from tests.sim.scene import QUICK, Scene

HEAVY_ROUND = 1
"""The first round in which somebody has trained."""


class ProbedLanes(Lanes):
    """Counts moments; at number `strike_at` it stops the victims."""

    strike_at = -1
    victims: tuple[int, ...] = ()
    moments = 0
    scene: Scene
    struck: float | None = None

    def _moment(self) -> None:
        if self.moments == self.strike_at:
            self.struck = self.scene.now
            self.scene.kill(*self.victims)
        self.moments += 1

    def send(self, wire: Wire, message: Message) -> None:
        self._moment()
        if wire.source.running:
            super().send(wire, message)

    def broadcast(self, wires: Iterable[Wire], message: Message) -> None:
        for wire in list(wires):
            self.send(wire, message)

    def send_bulk(self, wire: Wire, message: Message, content: object, size: int) -> int:
        self._moment()
        return super().send_bulk(wire, message, content, size) if wire.source.running else 0

    def hand_over(self, wire: Wire, message: Message, content: object) -> None:
        self._moment()
        if wire.target.running:
            super().hand_over(wire, message, content)


def begin(nodes: int, seed: int, links: str) -> tuple[Scene, ProbedLanes]:
    """A swarm whose first view has just been formed; moments count from here."""
    settings: Settings = replace(QUICK, nodes=nodes, seed=seed, links=links, train_seconds=0.05, blocks_per_node=1)
    scene = Scene(settings, ProbedLanes)
    scene.run_rounds(HEAVY_ROUND - 1)
    lanes = scene.world.lanes
    assert isinstance(lanes, ProbedLanes)
    lanes.scene, lanes.moments = scene, 0
    return scene, lanes


def moments_of_a_round(nodes: int, seed: int, links: str) -> int:
    """How many there are until everybody has committed."""
    scene, lanes = begin(nodes, seed, links)
    scene.run_rounds(HEAVY_ROUND)
    return lanes.moments


def seconds_to_commit(nodes: int, seed: int, links: str, victims: tuple[int, ...], moment: int) -> float:
    """Stop the victims at that moment, and wait until the survivors have committed this round and the next."""
    scene, lanes = begin(nodes, seed, links)
    lanes.strike_at, lanes.victims = moment, victims
    scene.run(lambda: lanes.struck is not None, limit=30)
    took = scene.run_rounds(HEAVY_ROUND, limit=30)
    scene.run_rounds(HEAVY_ROUND + 1, limit=30)
    survivors = [node.chain.hash_at(HEAVY_ROUND) for node in scene.live()]
    assert len(survivors) == nodes - len(victims)
    assert len(set(survivors)) == 1
    return took
