"""Looks at the swarm once in a virtual second: does it get on, and does its memory stay bounded?"""

from __future__ import annotations

from itertools import combinations

from p2p.protocol.coordinator import PROMISE_SECONDS, REST_SECONDS, STRAGGLER_ROUNDS, STRAGGLER_SECONDS
from p2p.protocol.liveness import SILENCE_SECONDS, WITNESS_SECONDS
from p2p.protocol.round import FORGET_SECONDS
from p2p.protocol.stall import STALL_SECONDS
from swarm.simulate.virtual.checker import Violation
from swarm.simulate.virtual.director import Director
from swarm.simulate.virtual.node import VirtualNode
from swarm.simulate.virtual.store import KEEP_MEANS
from swarm.simulate.virtual.timeline import TICKS, ticks
from swarm.simulate.virtual.world import World

LOOK = TICKS
BACKLOG = 100_000
RECORDS_OF_A_ROUND = 64


class Watch:
    """`united` becomes true when, after the last fault, all live nodes are members of one view."""

    def __init__(self, world: World, director: Director) -> None:
        self.world, self.director = world, director
        self.united = False
        settings = world.settings
        death = SILENCE_SECONDS + WITNESS_SECONDS
        attempt = PROMISE_SECONDS + STALL_SECONDS + REST_SECONDS
        straggler = STRAGGLER_ROUNDS * STRAGGLER_SECONDS
        self.patience = ticks(2 * (death + attempt) + STALL_SECONDS + straggler + 10 * settings.train_seconds)
        """Within this a round ends that nobody disturbs any more: two deaths that are noticed one after the other, an
        attempt that stalls for each (the second for twice as long), and a straggler's deadline."""
        self._everybody: dict[str, int] = {}
        world.timeline.after(LOOK, self._look)

    def _look(self, _one: object, _other: object) -> None:
        self._check_progress()
        self._check_memory()
        if self.director.calm:
            self._check_union()
        self.world.timeline.after(LOOK, self._look)

    # --- progress ---

    def _check_progress(self) -> None:
        tick = self.world.timeline.tick
        if tick - max(self.world.committed_at, self.director.quiet_since) <= self.patience:
            return
        reach = self._clique()
        if len(reach) >= max(2, self.world.rules.quorum(reach[0].core.board.head)):
            names = ", ".join(node.name for node in reach[:8])
            seconds = (tick - self.world.committed_at) / TICKS
            raise Violation(
                f"no commit for {seconds:.0f} s, though {len(reach)} live nodes reach each other: {names} ..."
            )

    def _clique(self) -> list[VirtualNode]:
        """Live nodes that all reach each other: many, not always the most."""
        reach: list[VirtualNode] = []
        for node in sorted(self.world.live(), key=lambda node: node.stage == "syncing"):
            if all(self.world.network.connected(node, other) for other in reach):
                reach.append(node)
        return reach

    def _check_union(self) -> None:
        """After the last fault, all live nodes become members of one view."""
        self.united = self._is_united()
        tick = self.world.timeline.tick
        if not self.united and tick - self.director.quiet_since > 2 * self.patience:
            live = self.world.live()
            view = max((node.core.board.head for node in live), key=lambda head: head.height).view
            left_out = [f"{node.name} ({node.stage})" for node in live if node.peer not in view]
            left_out += [f"{peer} (no live node)" for peer in view if peer not in {node.peer for node in live}]
            raise Violation(f"the swarm has not become one again: left out {', '.join(left_out) or 'nobody'}")

    def _is_united(self) -> bool:
        live = self.world.live()
        heads = {node.core.board.head.hash for node in live}
        if len(heads) != 1 or any(node.stage == "syncing" for node in live):
            return False
        if any(not self.world.network.connected(one, other) for one, other in combinations(live[:8], 2)):
            return False
        return set(live[0].core.board.head.view) == {node.peer for node in live}

    # --- memory ---

    def _check_memory(self) -> None:
        tick = self.world.timeline.tick
        for node in self.world.nodes.values():
            if node.running or node.peer not in self._everybody:
                self._everybody[node.peer] = tick
        recent = sum(tick - seen <= ticks(2 * FORGET_SECONDS + 30) for seen in self._everybody.values())
        kept = KEEP_MEANS * len(self.world.rules.fragments)
        for node in self.world.live():
            board = node.core.board
            sizes = {
                "peers": (len(board.liveness.peers()), recent),
                "statuses": (len(board.statuses), recent),
                "means": (len(node.store.means), kept),
                "manifests": (len(node.store.manifests), kept + 1),
                "events while frozen": (len(node.backlog), BACKLOG),
            }
            for what, (size, most) in sizes.items():
                if size > most:
                    raise Violation(f"{node.name} keeps {size} {what}, where {most} are enough")
