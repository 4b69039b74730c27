"""Nodes that all may found the run and start at once end in one lineage, however slowly they find each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2p.protocol.chain import record_hash
from tests.sim.virtual_swarm import RULES, Node, VirtualSwarm

SEEDS = range(3)
TRAIN_SECONDS = 1.0


class Founders(VirtualSwarm):
    """All have the genesis; the links come up one by one."""

    def __init__(self, nodes: int, founders: int, seed: int, within: float) -> None:
        super().__init__(0, seed, replace(RULES, founders=founders), TRAIN_SECONDS)
        for _ in range(nodes):
            self.at(self.random.uniform(0.0, 0.2), lambda: self._arrive(within))

    def _arrive(self, within: float) -> None:
        node = self.add()
        others = [other for other in self.nodes if other is not node]
        self.cut([node], others)
        for other in others:
            self.at(self.random.uniform(0.0, within), lambda other=other: self._link(node, other))

    def _link(self, a: Node, b: Node) -> None:
        self._cuts -= {(a.peer, b.peer), (b.peer, a.peer)}
        for here, there in ((a, b), (b, a)):
            self._do(here, lambda here=here, there=there: here.core.on_link_up(there.peer, self.now))

    def heads(self) -> set[bytes]:
        """Of the newest round that all have committed."""
        height = min(len(node.history) for node in self.nodes)
        return {record_hash(node.history[height - 1]) for node in self.nodes} if height else set()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("within", [0.3, 3.0, 30.0])
@pytest.mark.parametrize("founders", [1, 2, 5])
def test_all_end_in_one_lineage(founders: int, within: float, seed: int) -> None:
    swarm = Founders(5, founders, seed, within)
    swarm.run(lambda: swarm.now > within + 0.2, limit=60)
    swarm.run(
        lambda: len(swarm.heads()) == 1 and all(len(node.core.board.head.view) == 5 for node in swarm.nodes), limit=60
    )
    height = max(node.core.board.head.height for node in swarm.nodes)
    swarm.run_rounds(height + 3)
    swarm.check()
    last = swarm.nodes[0].history[-1]
    assert len(last.seats) == 5
    assert all(last.weights)


def test_slow_links_do_make_lineages_that_have_to_merge() -> None:
    """So that the test above is about something."""
    swarm = Founders(5, 1, 0, 30.0)
    swarm.run(lambda: swarm.now > 5, limit=60)
    assert len({record_hash(node.history[0]) for node in swarm.nodes if node.history}) > 1
