"""Newcomers that are a round behind again and again get in, and cost the others a small share of their time."""

from __future__ import annotations

import pytest

from p2p.protocol.entrance import MOST_SECONDS, NEAR, SHARE, Entrance, almost_here
from p2p.protocol.liveness import SILENCE_SECONDS
from p2p.protocol.messages import Ready
from tests.p2p.protocol.test_coordinator import HEAD, B, Scene
from tests.sim.virtual_swarm import Node, VirtualSwarm, peer_name

NEWCOMER = peer_name(7)
OLD = b"o" * 32


def scene(height: int = 9) -> Scene:
    """As if the round after `height` were going on."""
    found = Scene()
    found.board.liveness.linked(NEWCOMER, found.now)
    record = HEAD.record
    assert record is not None
    found.board.follow(type(HEAD)(HEAD.fingerprint, record.model_copy(update={"round": height})))
    return found


def test_who_is_almost_here() -> None:
    found = scene()
    seen = {}
    for height in range(-1, 11):
        found.post(NEWCOMER, height=height, head=OLD, phase="syncing")
        seen[height] = NEWCOMER in almost_here(found.board, found.now)
    assert [height for height, almost in seen.items() if almost] == list(range(9 - NEAR, 10))
    found.post(NEWCOMER, height=8, head=OLD, phase="ready", ready=Ready(round=9, tokens=0, used=()))
    assert almost_here(found.board, found.now) == [NEWCOMER], "it has not seen yet that it is late"
    found.post(NEWCOMER, height=9, head=found.board.head.hash, phase="ready", ready=Ready(round=10, tokens=0, used=()))
    assert almost_here(found.board, found.now) == [], "it is here"


def test_who_is_not_almost_here() -> None:
    found = scene()
    found.post(B, height=8, head=OLD, phase="training")
    assert almost_here(found.board, found.now) == [], "a member of the view is waited for anyway"
    found.post(B, height=8, head=OLD, phase="syncing")
    assert almost_here(found.board, found.now) == [B], "unless it fetches"
    assert almost_here(found.board, found.now + 2 * SILENCE_SECONDS) == [], "it is dead"
    first = scene(height=0)
    first.post(NEWCOMER, height=-1, head=OLD, phase="syncing")
    assert almost_here(first.board, first.now) == [], "everybody begins with genesis"


def test_the_excluded_are_not_waited_for() -> None:
    found = scene()
    found.post(NEWCOMER, height=8, head=OLD, phase="syncing")
    entrance = Entrance()
    assert entrance.held_open(found.board, (), found.now)
    assert not entrance.held_open(found.board, {NEWCOMER}, found.now)


class SlowSync(VirtualSwarm):
    """A fetch takes a time in which the swarm moves on: it brings the state of when it began."""

    sync_seconds = 0.5

    def _sync(self, node: Node) -> None:
        donors = [other for other in self.live() if other is not node and other.core.holds_state]
        node.books = None
        if not donors:
            self._later(node, 0.1, lambda: self._sync(node))
            return
        best = max(donors, key=lambda other: other.core.board.head.tokens_total)
        head, root, history, signed = best.core.board.head, best.root, list(best.history), list(best.signed)

        def done() -> None:
            node.history, node.signed = history, signed
            self._synced(node, head, root)

        self._later(node, self.sync_seconds, done)


@pytest.mark.parametrize("share", [0.0, SHARE])
def test_a_newcomer_enters_a_swarm_whose_rounds_are_shorter_than_its_fetch(share: float) -> None:
    swarm = SlowSync(4, train_seconds=0.2)
    for node in swarm.nodes:
        node.core._entrance = Entrance(max(share, 1e-9), MOST_SECONDS if share else 1e-9)
    swarm.run_rounds(20)
    newcomer = swarm.add(founding=False)
    began = swarm.now
    swarm.run(lambda: newcomer.peer in swarm.nodes[0].core.board.head.view or swarm.now > began + 60, limit=100)
    took, height = swarm.now - began, len(swarm.nodes[0].history)
    if not share:
        assert took > 60, "so the others have to wait a little"
        return
    assert took < 10
    swarm.run_rounds(height + 20)
    swarm.check()
    assert newcomer.history[-1].weights[-1] > 0
