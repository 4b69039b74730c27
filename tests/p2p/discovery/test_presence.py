"""A node tells where it is, links with whom it finds, and remembers. With a real DHT: test_simultaneous_starts.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from p2p.contact import SignedContact
from p2p.contact_file import load_contacts, save_contacts
from p2p.discovery import presence
from p2p.discovery.presence import MAX_STRANGERS, Place, hosts_of, present
from p2p.identity import Identity
from tests.p2p.channel.nodes import DEADLINE_SECONDS, RUN, Node


class SilentDht:
    """Finds what the test says, and nothing else."""

    p2pd_id = "p2pd"

    def __init__(self, hosts: tuple[str, ...] = ("127.0.0.1",)) -> None:
        self.hosts = hosts
        self.found: Callable[[SignedContact], None] = lambda signed: None
        self.contact: Callable[[], SignedContact]

    def addresses(self) -> list[str]:
        return [f"/ip4/{host}/tcp/7401/p2p/{Identity.generate().peer_id}" for host in self.hosts]

    async def run(self, contact: Callable[[], SignedContact], found: Callable[[SignedContact], None]) -> None:
        self.contact, self.found = contact, found
        await asyncio.Event().wait()


@asynccontextmanager
async def alive(memory: Path, events: list[str] | None = None, **place: Any) -> AsyncIterator[tuple[Node, Any]]:
    node, dht = Node(), SilentDht()
    await node.listen()
    where = Place("run", RUN.fingerprint, node.port, memory, **place)
    tell = (events if events is not None else []).append
    try:
        async with present(node.identity, dht, node.mesh, where, tell):  # type: ignore[arg-type]
            await asyncio.sleep(0)  # the tasks begin
            yield node, dht
    finally:
        await node.mesh.close()


async def test_whoever_is_met_is_remembered_in_the_next_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "SAVE_SECONDS", 0.001)
    memory = tmp_path / "a"
    async with alive(tmp_path / "b") as (b, b_dht):
        async with alive(memory) as (a, dht):
            dht.found(b_dht.contact())
            await a.linked(b)
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not memory.exists():  # noqa: ASYNC110 - nothing is told when it is written
                    await asyncio.sleep(0.001)
        assert [signed.contact.peer for signed in load_contacts(memory)] == [b.peer]
        async with alive(memory) as (a, _):
            await a.linked(b)
            assert a.mesh.met()[0].contact.addresses == (("127.0.0.1", b.port),)


async def test_each_announcement_is_signed_anew_with_the_address_given(tmp_path: Path) -> None:
    async with alive(tmp_path / "a", announce_host="node.example.org") as (a, dht):
        first, second = dht.contact(), dht.contact()
        assert second.contact.sequence > first.contact.sequence
        assert second.contact.addresses == (("node.example.org", a.port),)
        assert second.is_genuine()


async def test_a_node_of_another_run_is_dialled_once_so_that_both_are_told(tmp_path: Path) -> None:
    async with alive(tmp_path / "a") as (a, dht):
        stranger = Node(run=RUN.__class__(b"o" * 32, {"model": "other"}))
        await stranger.listen()
        for sequence in (1, 2):
            dht.found(stranger.signed_contact(sequence))
        await asyncio.gather(a.until(lambda: a.said("refused")), stranger.until(lambda: stranger.said("refused")))
        assert "model is 'demo' here, 'other' there" in a.said("refused")[0][1]
        for _ in range(2 * MAX_STRANGERS):
            crowd = Node(stranger.identity.generate(), run=stranger.run)
            crowd.port = 1
            dht.found(crowd.signed_contact())
        assert len(a.mesh._acquaintances._known) == MAX_STRANGERS  # nothing public counts them
        assert a.mesh.contacts() == [a.mesh._acquaintances._book.signed(a.peer)]
        await stranger.mesh.close()


async def test_a_broken_memory_is_told_and_written_anew(tmp_path: Path) -> None:
    memory, events = tmp_path / "a", list[str]()
    memory.write_bytes(b"garbage")
    async with alive(tmp_path / "b") as (b, b_dht), alive(memory, events) as (a, dht):
        assert len(events) == 1
        assert "is no file of contacts" in events[0]
        dht.found(b_dht.contact())
        await a.linked(b)
    assert len(load_contacts(memory)) == 1


async def test_a_forged_memory_is_told_and_a_memory_that_cannot_be_written_too(tmp_path: Path) -> None:
    memory, events = tmp_path / "folder" / "a", list[str]()
    memory.parent.mkdir()
    async with alive(tmp_path / "b") as (b, b_dht):
        save_contacts(memory, [b_dht.contact().model_copy(update={"signature": bytes(64)})])
        async with alive(memory, events) as (a, dht):
            assert "is not signed by it" in events[0]
            memory.unlink()
            memory.parent.rmdir()
            dht.found(b_dht.contact())
            await a.linked(b)
        assert "cannot write" in events[-1]


def test_loopback_is_announced_only_where_there_is_nothing_else() -> None:
    assert hosts_of(SilentDht(("127.0.0.1", "192.0.2.1", "192.0.2.1"))) == ["192.0.2.1"]  # type: ignore[arg-type]
    assert hosts_of(SilentDht(("127.0.0.1",))) == ["127.0.0.1"]  # type: ignore[arg-type]
