"""Which of several addresses is used."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from p2p.channel.dial import dial_any
from p2p.channel.handshake import Refusal
from p2p.channel.hello import RunIdentity
from p2p.contact import Contact
from p2p.identity import Identity
from tests.p2p.channel.nodes import RUN, Node, NodeFactory

NOBODY = ("127.0.0.1", 1)


def contact_at(*addresses: tuple[str, int]) -> Contact:
    peer = Identity.generate().peer_id
    return Contact(peer=peer, p2pd="", addresses=addresses, fingerprint=RUN.fingerprint, sequence=1)


async def test_an_address_where_nobody_is_does_not_delay_the_next(new_node: NodeFactory) -> None:
    a, b = await new_node(), await new_node()
    started = time.monotonic()
    await dial_any(b.mesh._dial_settings, a.contact(1, NOBODY, NOBODY, NOBODY))
    assert time.monotonic() - started < 5
    await asyncio.gather(a.linked(b), b.linked(a))


async def test_an_address_that_does_not_answer_is_overtaken(new_node: NodeFactory) -> None:
    a, b = await new_node(), await new_node()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        await dial_any(b.mesh._dial_settings, a.contact(1, silent.getsockname()))
    await asyncio.gather(a.linked(b), b.linked(a))


async def test_the_peers_own_refusal_counts_most(new_node: NodeFactory) -> None:
    a, b = await new_node(), await new_node(run=RunIdentity(b"o" * 32))
    other = await new_node()
    with pytest.raises(Refusal) as caught:
        await dial_any(b.mesh._dial_settings, a.contact(1, NOBODY, ("127.0.0.1", other.port)))
    assert caught.value.code == "run"
    with pytest.raises(Refusal, match="answers at its address"):
        await dial_any(
            b.mesh._dial_settings, a.contact().model_copy(update={"addresses": (NOBODY, ("127.0.0.1", other.port))})
        )


async def test_nobody_anywhere_is_an_oserror_at_once() -> None:
    node = Node(run=RUN)
    with pytest.raises(ConnectionRefusedError):
        await dial_any(node.mesh._dial_settings, contact_at(NOBODY, NOBODY))
    await node.mesh.close()


async def test_an_address_that_never_answers_times_out() -> None:
    node = Node(handshake_seconds=0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        await dial_any(node.mesh._dial_settings, contact_at(silent.getsockname()))
    await node.mesh.close()
