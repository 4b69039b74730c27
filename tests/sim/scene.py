"""A virtual swarm on a stage: tests say what happens to whom, and wait in virtual time for what should follow.

The rules that must never be broken are checked at every step, by the simulator itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from p2p.protocol.chain import MemoryChain
from p2p.protocol.messages import Record
from swarm.simulate.virtual.lanes import Lanes
from swarm.simulate.virtual.node import VirtualNode
from swarm.simulate.virtual.settings import Settings
from swarm.simulate.virtual.story import story
from swarm.simulate.virtual.world import FINGERPRINT, World

QUICK = Settings(nodes=3, links="lan", train_seconds=1.0, short_share=0.0, min_peers=1)


class Scene:
    """Nodes by number; the first `settings.nodes` of them found the run."""

    def __init__(self, settings: Settings = QUICK, lanes: type[Lanes] = Lanes, found: bool = True) -> None:
        self.world = World(settings, lanes)
        if found:
            self.world.found()

    @classmethod
    def of(cls, nodes: int, seed: int = 0, rounds: int = 1, **changes: object) -> Scene:
        """A swarm that has committed so many training rounds, and nothing has happened to it yet."""
        scene = cls(replace(QUICK, nodes=nodes, seed=seed, **changes))  # type: ignore[arg-type]
        scene.run_rounds(rounds)
        return scene

    @property
    def now(self) -> float:
        return self.world.timeline.seconds

    @property
    def nodes(self) -> dict[int, VirtualNode]:
        return self.world.nodes

    def live(self) -> list[VirtualNode]:
        return self.world.live()

    # --- what is done to the swarm ---

    def kill(self, *numbers: int) -> None:
        """SIGKILL: what they had sent may arrive; then their links end, and dials are refused."""
        for number in numbers:
            self.world.network.stop(self.nodes[number], "killed")

    def freeze(self, *numbers: int) -> None:
        """SIGSTOP: silence, with open links."""
        self.world.checker.may_fork = True
        for number in numbers:
            self.world.network.freeze(self.nodes[number])

    def thaw(self, *numbers: int) -> None:
        for number in numbers:
            self.world.network.thaw(self.nodes[number])

    def restart(self, number: int, *, records: bool = True) -> VirtualNode:
        """Another process of a node that has died."""
        chain = self.nodes[number].chain if records else MemoryChain(FINGERPRINT)
        return self.world.start(number, chain)

    def join(self) -> VirtualNode:
        return self.world.join()

    def leave(self, number: int) -> None:
        self.nodes[number].leave()

    def split(self, *numbers: int) -> None:
        """A partition: these on one side, all others on the other."""
        self.world.checker.may_fork = True
        self.world.network.split(numbers, "refused")

    def heal(self) -> None:
        self.world.network.heal()

    # --- time ---

    def run(self, until: Callable[[], bool], limit: float) -> float:
        """Let time pass until the condition holds; fails after `limit` virtual seconds. Returns how many it took."""
        began = self.now
        while not until():
            assert self.world.timeline.step(), "nothing is left to happen"
            if self.now - began > limit:
                raise AssertionError("\n".join([f"not within {limit} s:", *self.story()]))
        return self.now - began

    def rest(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        self.run(lambda: self.now >= end, seconds + 1)

    def run_rounds(self, height: int, limit: float = 60.0) -> float:
        """Until every live node has applied the record `height`."""
        return self.run(lambda: min((node.chain.tip.height for node in self.live()), default=-1) >= height, limit)

    def run_until_united(self, limit: float = 90.0) -> float:
        """Until all live nodes are members of the same view, with the same state."""
        return self.run(self.united, limit)

    def united(self) -> bool:
        live = self.live()
        view = live[0].core.board.head.view
        heads = {node.core.board.head.hash for node in live}
        return len(heads) == 1 and set(view) == {node.peer for node in live}

    # --- what came of it ---

    @property
    def height(self) -> int:
        """Newest round that anybody has committed."""
        return self.world.checker.height

    def history(self, number: int) -> list[Record]:
        """The records that a node has."""
        chain = self.nodes[number].chain
        return [chain.record(round).record for round in range(chain.tip.height + 1)]

    def events(self, number: int, name: str) -> list[dict[str, object]]:
        """What a node has reported under this name."""
        return [fields for _, event, fields in self.world.chronicle.told.get(number, ()) if event == name]

    def story(self) -> list[str]:
        return story(self.world.chronicle, self.height + 1)


def members(record: Record) -> Sequence[int]:
    """The numbers of the nodes that sit in it."""
    return [int(peer[-6:]) for peer in record.members]
