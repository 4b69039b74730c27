"""These tests run on uvloop, as nodes do; those of the whole mesh on asyncio's own loop too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop

from tests.p2p.channel.nodes import Node, NodeFactory


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    factories: dict[str, Callable[[], Any]] = {"uvloop": uvloop.new_event_loop}
    if item.path.name == "test_mesh.py":
        factories["asyncio"] = asyncio.new_event_loop
    return factories


@pytest.fixture
async def new_node() -> AsyncIterator[NodeFactory]:
    """Makes listening nodes and closes them in the end."""
    nodes: list[Node] = []

    async def make(**options: Any) -> Node:
        node = Node(**options)
        nodes.append(node)
        await node.listen()
        return node

    yield make
    for node in nodes:
        await node.mesh.close()
