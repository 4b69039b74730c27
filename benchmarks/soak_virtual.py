"""The virtual half of benchmarks/soak.py: thousands of rounds of eight nodes on the cores that real nodes run.

Four nodes stay from the first round to the last and are looked at every few rounds. The places of the other four change
hands: one of them is killed, and starts again on its records or gives way to somebody who was never there.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

from swarm.simulate.virtual.node import VirtualNode
from swarm.simulate.virtual.run import Simulation
from swarm.simulate.virtual.settings import Settings
from swarm.simulate.virtual.timeline import ticks
from tests.fuzz.storm import footprint

NODES, STAYING = 8, 4
CHANGE_EVERY, LOOK_EVERY = 5, 10
AGAIN_SECONDS = 4.0
"""From a death until somebody takes the place."""

Sample = Callable[[str, str, float, float], None]
"""(node, what, round, number)"""


def soak(rounds: int, sample: Sample) -> str:
    """Run; returns what rule was broken, or nothing."""
    simulation = Simulation(Settings(nodes=NODES, rounds=rounds, links="lan", min_peers=1))
    world = simulation.world
    places = cycle(range(STAYING, NODES))
    holders = {place: place for place in range(NODES)}
    """Number of the node that has each place."""
    play = world.on_commit

    def change() -> None:
        place = next(places)
        node = world.nodes[holders[place]]
        if node.running:
            world.network.stop(node, "killed")
            world.timeline.after(ticks(AGAIN_SECONDS), take, place, node)

    def take(place: int, node: VirtualNode) -> None:
        if node.life % 2:
            world.start(node.index, node.chain)
        else:
            holders[place] = world.join().index

    def on_commit(round: int) -> None:
        play(round)
        if round % CHANGE_EVERY == 0 and round < rounds:
            change()
        if round % LOOK_EVERY == 0:
            for index in range(STAYING):
                node = world.nodes[index]
                parts = (node.core, node.store, node.reducer, node.donor, node.fetch)
                strangers = (world, world.means, node, node.chain, *world.nodes.values())
                sample(node.name, "core kB", round, sum(footprint(part, strangers) for part in parts) / 1e3)
                sample(node.name, "links", round, len(node.wires))
            sample("all", "timers", round, world.timeline.pending())
        if round % 500 == 0:
            print(f"virtual round {round}", flush=True)

    world.on_commit = on_commit
    return simulation.run().violation
