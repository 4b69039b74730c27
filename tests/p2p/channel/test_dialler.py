"""When a dialler dials, and what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import p2p.channel.dialler
from p2p.channel.dialler import Dialler, DiallerEvents
from p2p.channel.handshake import Refusal, refusal
from p2p.contact import Contact
from p2p.identity import Identity

PEER = Identity.generate().peer_id


def contact(sequence: int = 1, port: int = 7400) -> Contact:
    return Contact(peer=PEER, p2pd="", addresses=(("192.0.2.1", port),), fingerprint=bytes(32), sequence=sequence)


class World:
    """Attempts wait for the test to say how they end."""

    def __init__(self, linked: bool = False) -> None:
        self.attempts: asyncio.Queue[tuple[Contact, asyncio.Future[None]]] = asyncio.Queue()
        self.told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        events = DiallerEvents(
            lambda peer, reason: self.told.put_nowait(("refused", reason)),
            lambda peer, reason: self.told.put_nowait(("unreachable", reason)),
        )
        self.dialler = Dialler(contact(), self._attempt, events, linked)

    async def _attempt(self, contact: Contact) -> None:
        ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.attempts.put_nowait((contact, ending))
        await ending

    async def attempt(self) -> tuple[Contact, asyncio.Future[None]]:
        async with asyncio.timeout(10):
            return await self.attempts.get()

    async def fails(self, error: Exception) -> None:
        (await self.attempt())[1].set_exception(error)

    async def succeeds(self) -> None:
        _, ending = await self.attempt()
        self.dialler.link_up()
        ending.set_result(None)

    async def hears(self) -> tuple[str, str]:
        async with asyncio.timeout(10):
            return await self.told.get()


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(p2p.channel.dialler, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(p2p.channel.dialler, "LONGEST_PAUSE_SECONDS", 0.01)
    world = World()
    yield world
    await world.dialler.close()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_it_tries_again_until_there_is_a_link_and_keeps_quiet(world: World) -> None:
    for _ in range(5):
        await world.fails(ConnectionRefusedError(111, "Connection refused"))
    await world.succeeds()
    await turns()
    assert world.attempts.empty()
    assert world.told.empty()


async def test_a_lost_peer_that_cannot_be_reached_is_told_once_and_at_once(world: World) -> None:
    await world.succeeds()
    world.dialler.link_down()
    await world.fails(ConnectionRefusedError(111, "Connection refused"))
    assert await world.hears() == ("unreachable", "Connection refused")
    await world.fails(ConnectionRefusedError(111, "Connection refused"))
    await world.fails(TimeoutError())
    await world.succeeds()
    world.dialler.link_down()
    await world.fails(TimeoutError())
    assert await world.hears() == ("unreachable", "timed out")


async def test_a_link_that_the_peer_made_meanwhile_is_no_news(world: World) -> None:
    await world.succeeds()
    world.dialler.link_down()
    _, ending = await world.attempt()
    world.dialler.link_up()
    ending.set_exception(TimeoutError())
    await turns()
    assert world.told.empty()
    assert world.attempts.empty()


async def test_a_refusal_ends_it_until_there_is_a_newer_contact(world: World) -> None:
    await world.fails(refusal("run", "another run"))
    assert await world.hears() == ("refused", "another run")
    world.dialler.update(contact(1))
    await turns()
    assert world.attempts.empty()
    world.dialler.update(contact(2, 7500))
    dialled, ending = await world.attempt()
    assert dialled.addresses[0][1] == 7500
    ending.set_exception(refusal("run", "another run"))
    await turns()
    assert world.told.empty()  # the same reason is told once


async def test_a_stranger_at_its_address_is_told_once_and_tried_again(world: World) -> None:
    await world.succeeds()
    world.dialler.link_down()
    for _ in range(3):
        await world.fails(Refusal("identity", "a stranger answers", None))
    assert await world.hears() == ("refused", "a stranger answers")
    assert await world.hears() == ("unreachable", "a stranger answers")
    await turns()
    assert world.told.empty()


async def test_a_duplicate_is_no_refusal(world: World) -> None:
    await world.fails(refusal("duplicate", "already linked"))
    await world.succeeds()
    assert world.told.empty()


async def test_it_waits_when_links_keep_breaking(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await world.succeeds()
        world.dialler.link_down()
    await world.succeeds()
    monkeypatch.setattr(p2p.channel.dialler, "FIRST_PAUSE_SECONDS", 1000.0)
    monkeypatch.setattr(p2p.channel.dialler, "LONGEST_PAUSE_SECONDS", 1000.0)
    world.dialler._pause = 1000.0
    world.dialler.link_down()
    await turns()
    assert world.attempts.empty()
    world.dialler.update(contact(2, 7500))  # it moved: that is worth a try
    await world.attempt()


async def test_it_does_not_dial_while_linked() -> None:
    world = World(linked=True)
    await turns()
    assert world.attempts.empty()
    world.dialler.link_down()
    await world.attempt()
    await world.dialler.close()
