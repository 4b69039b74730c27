"""SIGKILL one of four real nodes, in training or in the reduce, the coordinator too: the others notice it within 3 s
and commit within 15 s."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from swarm.events import Dead, Reducing, Train
from tests.e2e.processes import QUICK, NodeProcess, processes, shared_memory

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(240)]
COMMIT_SECONDS = 15.0
DETECTION_SECONDS = 3.0
BIG = QUICK.model_copy(update={"model": "10m", "inner_steps": 2, "batch_size": 1, "sequence_length": 32})
"""A model whose reduce takes long enough to die in the middle of it."""


def survivors_commit(nodes: list[NodeProcess], victim: NodeProcess, round: int) -> None:
    """The survivors commit the round that the victim died in, in time, and one more."""
    survivors = [node for node in nodes if node is not victim]
    peer, began = victim.peer, time.time()
    victim.child.kill()
    for node in survivors:
        node.wait_round(round)
    assert time.time() - began < COMMIT_SECONDS
    for node in survivors:
        dead = node.wait(Dead, lambda event: event.peer == peer)
        assert node.time_of(dead) - began < DETECTION_SECONDS
    for node in survivors:
        node.wait_round(round + 1)


@pytest.mark.parametrize("coordinator", [True, False], ids=["coordinator", "member"])
def test_a_node_killed_in_training(tmp_path: Path, coordinator: bool) -> None:
    before = shared_memory()
    with processes(tmp_path) as group:
        nodes = group.found(4)
        first = max((node.wait_round(2) for node in nodes), key=lambda event: event.round)
        round = first.round + 1
        victim = next(node for node in nodes if (node.rounds()[2].peer == first.members[0]) == coordinator)
        victim.wait(Train, lambda event: event.round >= round)
        survivors_commit(nodes, victim, round)
        group.same_digests()
    assert shared_memory() <= before


@pytest.mark.parametrize("coordinator", [True, False], ids=["coordinator", "member"])
def test_a_node_killed_in_the_reduce(tmp_path: Path, coordinator: bool) -> None:
    with processes(tmp_path) as group:
        nodes = group.found(4, BIG)
        for node in nodes:
            node.wait_round(1)
        plan = nodes[0].wait(Reducing, lambda event: event.round >= 2 and event.members == 4)
        peers = {event.peer: node for node in nodes for event in node.rounds().values()}
        victim = peers[plan.coordinator] if coordinator else next(n for p, n in peers.items() if p != plan.coordinator)
        last = max(node.rounds()[max(node.rounds())].round for node in nodes)
        started = victim.wait(Reducing, lambda event: event.round > last)
        survivors_commit(nodes, victim, started.round)
        group.same_digests()
