"""Plays seeded faults: when, to whom, for how long. Most are aimed at the moments of a round that matter."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from p2p.protocol.chain import MemoryChain
from swarm.simulate.virtual.host import Host, WireState
from swarm.simulate.virtual.mixes import MIXES, SECONDS, Kind
from swarm.simulate.virtual.network import Cut
from swarm.simulate.virtual.node import VirtualNode
from swarm.simulate.virtual.timeline import ticks
from swarm.simulate.virtual.world import FINGERPRINT, World

AIMED = 0.6
"""Share of faults that are aimed at a moment of the round."""
MOMENTS = {"reduce": 2.0, "vote": 2.0, "attempt": 1.0}
"""What they are aimed at, and how often: any time of the reduce, the first vote of an attempt, the start of a further
attempt."""
MOMENT_TICKS = 80
"""How long after a vote or the start of an attempt such a fault may strike: votes and commits travel meanwhile."""
AT_ONCE = 0.2
"""Share of faults that come with a second one, within AT_ONCE_TICKS."""
AT_ONCE_TICKS = 60
COORDINATOR = 0.25
"""How often the coordinator is the victim."""


class Director:
    """`on_commit` and `on_reduce` are told of the first commit and the first reduce of each round, `on_vote` and
    `on_attempt` of the first vote for each ballot and of each further attempt."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.struck: Counter[str] = Counter()
        self.quiet_since = 0
        """Tick of the last fault or its end."""
        self.calm = False
        self._mix = MIXES[world.settings.faults]
        self._draws = random.Random(f"{world.settings.seed}/faults")
        self._aimed: Counter[str] = Counter()
        """Faults that wait for their moment."""
        self._reduce_ticks = 1000
        self._reducing_since = 0
        self._least = max(2, world.settings.quorum, world.settings.nodes // 3)
        self._play: dict[Kind, Callable[[], str | None]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "restart": self._restart,
            "join": self._join,
            "leave": self._leave,
            "cut": self._cut,
            "partition": self._partition,
            "break": self._break,
            "slow": self._slow,
            "corrupt": self._corrupt,
            "skew": self._skew,
        }

    # --- when ---

    def on_commit(self, round: int) -> None:
        """A round was committed for the first time: draw the faults of the next."""
        timeline, settings = self.world.timeline, self.world.settings
        self._reduce_ticks = max(50, timeline.tick - self._reducing_since)
        if self.calm:
            return
        if round >= settings.rounds:
            self._calm_down()
            return
        expected = self._mix.per_round
        for _ in range(int(expected + self._draws.random())):
            if self._draws.random() < AIMED:
                moment = self._draws.choices(list(MOMENTS), list(MOMENTS.values()))[0]
                self._aimed[moment] += 1
            else:
                delay = self._draws.uniform(0.0, 1.3 * settings.train_seconds)
                timeline.after(ticks(delay), self._strike)

    def on_reduce(self) -> None:
        """The first reduce of a round began."""
        timeline = self.world.timeline
        self._reducing_since = timeline.tick
        for _ in range(self._aimed.pop("reduce", 0)):
            timeline.after(self._draws.randrange(self._reduce_ticks), self._strike)

    def on_vote(self) -> None:
        """The first vote for a ballot."""
        self._strike_soon("vote")

    def on_attempt(self) -> None:
        """A coordinator asks for promises."""
        self._strike_soon("attempt")

    def _strike_soon(self, moment: str) -> None:
        if self._aimed[moment]:
            self._aimed[moment] -= 1
            self.world.timeline.after(self._draws.randrange(MOMENT_TICKS), self._strike)

    def _strike(self, _one: object = None, _other: object = None) -> None:
        if self.calm:
            return
        kinds = list(self._mix.shares)
        kind = self._draws.choices(kinds, [self._mix.shares[kind] for kind in kinds])[0]
        told = self._play[kind]()
        if told is None:
            return
        self._tell(told)
        self.struck[kind] += 1
        if self._draws.random() < AT_ONCE:
            self.world.timeline.after(self._draws.randrange(AT_ONCE_TICKS), self._strike)

    def _later(
        self, kind: Kind, function: Callable[[Any, Any], None], one: object = None, other: object = None
    ) -> None:
        """When the fault ends."""
        self.world.timeline.after(ticks(self._draws.uniform(*SECONDS[kind])), function, one, other)

    def _calm_down(self) -> None:
        """No more faults, and every cut mended: now the swarm has to find together."""
        self.calm = True
        self._aimed.clear()
        self.world.network.heal()
        self.world.presence.touch(*self.world.nodes)
        for node in self.world.nodes.values():
            self._thaw(node, None)
        self._tell("every cut is mended, no more faults")

    def _tell(self, told: str) -> None:
        self.quiet_since = self.world.timeline.tick
        self.world.chronicle.fault(self.world.timeline.tick, told)

    # --- to whom ---

    def _holders(self) -> list[VirtualNode]:
        """Live nodes with state: enough of them have to stay for the run to go on."""
        return [node for node in self.world.live() if node.stage in ("training", "waiting")]

    def _victim(self, *, may_lose: bool = True) -> VirtualNode | None:
        live = self.world.live()
        holders = self._holders()
        if may_lose and len(holders) <= self._least:
            live = [node for node in live if node not in holders]
        if not live or (may_lose and len(self.world.live()) <= self._least):
            return None
        if self._draws.random() < COORDINATOR:
            rank = {node.index: node.core.board.rank(node.peer) for node in live}
            return min(live, key=lambda node: (-node.core.board.head.height, rank[node.index]))
        return self._draws.choice(live)

    def _two(self) -> Sequence[VirtualNode]:
        live = self.world.live()
        return self._draws.sample(live, 2) if len(live) > 2 else ()

    def _kind_of_cut(self) -> Cut:
        return "silent" if self._draws.random() < 0.5 else "refused"

    # --- faults ---

    def _kill(self) -> str | None:
        node = self._victim()
        if node is None:
            return None
        vanishes = self._draws.random() < 0.3
        node.gone_silently = vanishes
        self.world.network.stop(node, "vanished" if vanishes else "killed")
        return f"the machine of {node.name} vanishes" if vanishes else f"{node.name} is killed"

    def _restart(self) -> str | None:
        node = self._victim()
        if node is None:
            return None
        self.world.network.stop(node, "killed")
        keeps = self._draws.random() < 0.7
        self._later("restart", self._start_again, node, node.chain if keeps else MemoryChain(FINGERPRINT))
        return f"{node.name} is killed, to be started again {'with' if keeps else 'without'} its records"

    def _start_again(self, node: VirtualNode, chain: MemoryChain) -> None:
        self.world.start(node.index, chain)
        self._tell(f"{node.name} is started again")

    def _freeze(self) -> str | None:
        node = self._victim()
        if node is None:
            return None
        self.world.checker.may_fork = True
        self.world.network.freeze(node)
        self.world.presence.touch(node.index)
        self._later("freeze", self._thaw, node)
        return f"{node.name} freezes"

    def _thaw(self, node: VirtualNode, _unused: object) -> None:
        if node.frozen and node.running:
            self.world.network.thaw(node)
            self.world.presence.touch(node.index)
            self._tell(f"{node.name} wakes up")

    def _join(self) -> str:
        return f"{self.world.join().name} joins"

    def _leave(self) -> str | None:
        node = self._victim()
        if node is None:
            return None
        node.leave()
        return f"{node.name} is told to leave"

    def _cut(self) -> str | None:
        pair = self._two()
        if not pair:
            return None
        self.world.checker.may_fork = True
        kind = self._kind_of_cut()
        self.world.network.cut(pair[0].index, pair[1].index, kind)
        self.world.presence.touch(pair[0].index, pair[1].index)
        self._later("cut", self._mend, pair[0], pair[1])
        return f"{pair[0].name} and {pair[1].name} cannot reach each other any more ({kind})"

    def _mend(self, one: Host, other: Host) -> None:
        self.world.network.mend(one.index, other.index)
        self.world.presence.touch(one.index, other.index)
        self._tell(f"n{one.index} and n{other.index} can reach each other again")

    def _partition(self) -> str | None:
        live = self.world.live()
        if len(live) < 4 or self.world.network.partition is not None:
            return None
        self.world.checker.may_fork = True
        kind = self._kind_of_cut()
        few = self._draws.sample(live, self._draws.randint(1, len(live) // 2))
        self.world.network.split((node.index for node in few), kind)
        self.world.presence.touch(*self.world.nodes)
        self._later("partition", self._heal)
        names = ", ".join(sorted((node.name for node in few), key=lambda name: int(name[1:])))
        return f"a partition ({kind}): {names} on one side"

    def _heal(self, _one: object, _other: object) -> None:
        if self.world.network.partition is not None:
            self.world.network.heal()
            self.world.presence.touch(*self.world.nodes)
            self._tell("the partition ends, and every cut with it")

    def _break(self) -> str | None:
        pair = self._two()
        if not pair:
            return None
        self.world.presence.touch(pair[0].index, pair[1].index)
        self.world.network.end(pair[0].index, pair[1].index, "connection reset")
        return f"the link of {pair[0].name} and {pair[1].name} breaks"

    def _slow(self) -> str | None:
        node = self._victim(may_lose=False)
        if node is None:
            return None
        self.world.presence.touch(node.index)
        if self._draws.random() < 0.5:
            node.speed *= 5
            self._later("slow", self._speed_up, node, (5.0, 1.0))
            return f"{node.name} trains five times as slowly"
        node.up, node.down = node.up / 10, node.down / 10
        self._later("slow", self._speed_up, node, (1.0, 10.0))
        return f"the network of {node.name} becomes ten times as slow"

    def _speed_up(self, node: VirtualNode, factors: tuple[float, float]) -> None:
        self.world.presence.touch(node.index)
        node.speed /= factors[0]
        node.up, node.down = node.up * factors[1], node.down * factors[1]

    def _corrupt(self) -> str | None:
        node = self._victim(may_lose=False)
        if node is None or not node.wires:
            return None
        wire = node.wires[self._draws.choice(sorted(node.wires))]
        self.world.presence.touch(node.index, wire.target.index)
        if wire.state == WireState.OPEN:
            wire.state = WireState.POISONED
        return f"the next frame from {node.name} to n{wire.target.index} is damaged on the way"

    def _skew(self) -> str | None:
        node = self._victim(may_lose=False)
        if node is None:
            return None
        node.drift(1.0 + self._draws.uniform(-0.02, 0.02))
        return f"the clock of {node.name} runs at {node.rate:.3f} times the right speed"
