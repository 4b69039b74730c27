"""However nodes start, and whoever is missing then or later: they form one swarm. In virtual time."""

from __future__ import annotations

import os

import pytest

from tests.p2p.discovery.virtual_peers import VirtualPeers

SEEDS = range(int(os.environ.get("SWARM_SEEDS", "6")))
SOON = 5.0
"""Seconds from the moment from which it is possible until everybody is linked with everybody."""


def start(world: VirtualPeers, shape: str, spread: float = 1.0) -> None:
    """4 to 8 nodes, at any moment within `spread` seconds, with bootstrap lists of that shape."""
    count = world.random.randint(4, 8)
    times = [world.random.uniform(0.0, spread) for _ in range(count)]
    if shape == "a bootstrap node":
        world.add([], trains=False)
        lists = [[0]] * count
    elif shape == "two that know each other, one dead":
        world.add([1], trains=False)
        world.add([0], trains=False)
        world.at(0.0, lambda: world.kill(world.nodes[world.random.randrange(2)]))
        lists = [[0, 1]] * count
    elif shape == "everybody names everybody":
        lists = [list(range(count))] * count
    elif shape == "everybody names the same one of them":
        lists = [[world.random.randrange(count)]] * count
    elif shape == "each names the next":
        lists = [[(index + 1) % count] for index in range(count)]
    else:
        assert shape == "each names one that came before"
        lists = [[world.random.randrange(max(index, 1))] for index in range(count)]
    for names, at in zip(lists, times, strict=True):
        world.add(names, at)
    world.rest(spread)


SHAPES = [
    "a bootstrap node",
    "two that know each other, one dead",
    "everybody names everybody",
    "everybody names the same one of them",
    "each names the next",
    "each names one that came before",
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_nodes_that_start_at_once_form_one_swarm(shape: str, seed: int) -> None:
    world = VirtualPeers(seed)
    start(world, shape)
    world.run(world.linked, SOON)
    world.rest(300.0)
    assert world.linked(), "and they stay together"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_nodes_that_start_in_any_order_form_one_swarm(shape: str, seed: int) -> None:
    world = VirtualPeers(seed)
    start(world, shape, spread=60.0)
    world.run(world.linked, 15.0)  # the bootstrap list is looked at every 10 s


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bootstrap_node_may_come_late(seed: int) -> None:
    world = VirtualPeers(seed)
    late = world.random.uniform(1.0, 60.0)
    world.add([], late, trains=False)
    for _ in range(world.random.randint(4, 8)):
        world.add([0], world.random.uniform(0.0, 1.0))
    world.rest(late)
    world.run(world.linked, 15.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bootstrap_node_may_die_during_the_start_and_come_back(seed: int) -> None:
    world = VirtualPeers(seed)
    world.add([], trains=False)
    for _ in range(world.random.randint(4, 8)):
        world.add([0], world.random.uniform(0.0, 2.0))
    world.rest(world.random.uniform(0.0, 3.0))
    world.kill(world.nodes[0])
    world.rest(60.0)
    for node in world.nodes[1:]:
        company = [other for other in world.nodes[1:] if other is node or other.peer in node.links]
        assert world.linked(company), "all who met anybody know each other"
    world.start(world.nodes[0])
    world.run(world.linked, 15.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bootstrap_node_that_dies_for_good_is_not_missed_by_those_who_list_another(seed: int) -> None:
    world = VirtualPeers(seed)
    world.add([], trains=False)
    count = world.random.randint(4, 8)
    for index in range(1, count + 1):
        world.add([0, 1 + index % count], world.random.uniform(0.0, 1.0))
    world.at(world.random.uniform(0.0, 2.0), lambda: world.kill(world.nodes[0]))
    world.rest(2.0)
    world.run(world.linked, SOON)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_lost_everybody_finds_them_without_any_dht(seed: int) -> None:
    world = VirtualPeers(seed)
    start(world, "a bootstrap node")
    world.run(world.linked, SOON)
    world.kill(world.nodes[0])
    world.dht = False
    lost = world.nodes[world.random.randint(1, len(world.nodes) - 1)]
    world.cut(lambda a, b: (a is lost) != (b is lost))
    world.rest(world.random.uniform(30.0, 3000.0))
    assert not lost.links
    world.heal()
    world.run(world.linked, 16.0)  # a dial that began while nothing passed takes 10 s to end


@pytest.mark.parametrize("seed", SEEDS)
def test_two_halves_find_each_other_without_any_dht(seed: int) -> None:
    world = VirtualPeers(seed)
    start(world, "a bootstrap node")
    world.run(world.linked, SOON)
    world.dht = False
    half = set(world.random.sample(range(len(world.nodes)), len(world.nodes) // 2))
    world.cut(lambda a, b: (a.index in half) != (b.index in half))
    world.rest(world.random.uniform(30.0, 3000.0))
    world.heal()
    world.run(world.linked, 75.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_starts_again_elsewhere_with_its_bootstrap_dead_finds_the_swarm(seed: int) -> None:
    world = VirtualPeers(seed)
    start(world, "a bootstrap node")
    world.run(world.linked, SOON)
    world.rest(10.0)
    world.kill(world.nodes[0])
    world.dht = False
    moved = world.nodes[1]
    world.kill(moved)
    world.rest(world.random.uniform(0.1, 600.0))
    world.start(moved, moved=True)
    world.run(world.linked, SOON)


@pytest.mark.parametrize("seed", SEEDS)
def test_all_start_again_with_their_bootstrap_dead(seed: int) -> None:
    world = VirtualPeers(seed)
    start(world, "a bootstrap node")
    world.run(world.linked, SOON)
    world.rest(10.0)
    world.dht = False
    for node in world.nodes:
        world.kill(node)
    world.rest(60.0)
    for node in world.nodes[1:]:
        world.at(world.random.uniform(0.0, 30.0), lambda node=node: world.start(node))
    world.rest(30.0)
    world.run(world.linked, SOON)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_nobody_can_dial_links_with_newcomers_and_those_who_come_back(seed: int) -> None:
    world = VirtualPeers(seed)
    start(world, "a bootstrap node")
    hidden = world.add([0], dialable=False)
    world.run(lambda: hidden.up and world.linked(), SOON)
    world.dht = False
    newcomer = world.add([])
    world.rest(1.0)
    newcomer.core.remember(world.contact(world.nodes[1]), world.now)
    world.wake(newcomer)
    world.run(world.linked, SOON)
    world.rest(10.0)  # it writes down whom it met
    world.kill(newcomer)
    world.rest(600.0)
    world.start(newcomer)
    world.run(world.linked, SOON)


def test_the_same_seed_tells_the_same_story() -> None:
    def told(seed: int) -> tuple[float, str]:
        world = VirtualPeers(seed)
        start(world, "each names the next")
        return world.run(world.linked, SOON), world.story()

    assert told(3) == told(3)
    assert told(3) != told(4)
