"""Real DHT processes and meshes that start at the same moment form one swarm. Hundreds: benchmarks/discovery.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.discovery import (
    World,
    all_name_all,
    all_name_one_of_them,
    each_names_the_next,
    one_bootstrap_node,
    world,
)

DEADLINE_SECONDS = 60.0


@pytest.mark.parametrize("shape", [one_bootstrap_node, all_name_all, all_name_one_of_them, each_names_the_next])
def test_nodes_that_start_at_once_form_one_swarm(shape: Callable[[World, int], None]) -> None:
    with world() as made:
        shape(made, 4)
        made.nodes.start(made.members, [0.0] * len(made.members))
        assert made.wait(DEADLINE_SECONDS), made.story()
        assert not [node for node in made.members if node.failed]


def test_a_node_finds_the_swarm_again_when_its_bootstrap_node_is_dead() -> None:
    with world() as made:
        one_bootstrap_node(made, 3)
        made.nodes.start(made.members, [0.0] * 4)
        assert made.wait(DEADLINE_SECONDS), made.story()
        bootstrap, node, *others = made.members
        memory = node.directory / "contacts"
        assert made.nodes.until(memory.exists, DEADLINE_SECONDS, poll=0.1)
        made.nodes.kill([bootstrap, node])
        assert made.nodes.until(lambda: not any(node.peer in other.links for other in others), DEADLINE_SECONDS)
        made.nodes.start([node], [0.0])
        assert made.wait(DEADLINE_SECONDS), made.story()
