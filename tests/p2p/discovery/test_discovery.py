"""Real DHT members on loopback: they find each other, survive their bootstrap peer, and believe no forgery."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from p2p.contact import Contact, SignedContact, sign_contact
from p2p.discovery import dht_clock
from p2p.discovery.contact_entry import ContactValidator, expiration_of, key_of, next_sequence
from p2p.discovery.discovery import BootstrapUnreachable, Discovery, DiscoveryFailed, DiscoveryLost
from p2p.discovery.multiaddress import BadMultiaddr
from p2p.discovery.p2pd import DhtHostError, DhtPortInUse
from p2p.identity import Identity, KeyFileMode
from tests.p2p.discovery.test_dht_process import descendants

RUN, OTHER_RUN = "run", "other run"
DEADLINE_SECONDS = 30.0


class Node:
    """A Discovery with an identity and what it has heard."""

    def __init__(self, state_dir: Path, bootstrap: list[str], port: int = 0, **options: Any) -> None:
        self.events: list[str] = []
        self.identity = Identity.generate()
        self.found: set[str] = set()
        self.discovery = Discovery.start(
            bootstrap, "127.0.0.1", port, state_dir, on_event=self.events.append, **options
        )

    def contact(self) -> SignedContact:
        return sign_contact(
            self.identity,
            Contact(
                peer=self.identity.peer_id,
                p2pd=self.discovery.p2pd_id,
                addresses=(("127.0.0.1", 7400),),
                fingerprint=bytes(32),
                sequence=next_sequence(),
                run=RUN,
            ),
        )

    def hear(self, signed: SignedContact) -> None:
        self.found.add(signed.contact.peer)

    @property
    def address(self) -> str:
        return self.discovery.addresses()[0]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.discovery.run(self.contact, self.hear))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def wrong_clock() -> Iterator[Callable[[float], None]]:
    """Makes this machine's clock wrong for the nodes that start from now on."""
    right = dht_clock.offset()
    yield lambda seconds: dht_clock.set_offset(right + seconds)
    dht_clock.set_offset(right)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def make(bootstrap: list[str] | None = None, name: str | None = None, **options: Any) -> Node:
        node = Node(tmp_path / (name or f"node{len(nodes)}"), bootstrap or [], **options)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.discovery.close()


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition, which depends on other processes, holds."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - other processes set no event of ours
            await asyncio.sleep(0.02)


async def until_found(finder: Node, wanted: set[str]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if wanted <= {signed.contact.peer for signed in await finder.discovery.find(RUN)}:
                return
            await asyncio.sleep(0.1)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_members_find_each_other_and_outlive_their_bootstrap_peer(start: Callable[..., Node]) -> None:
    bootstrap = start()
    nodes = [start([bootstrap.address]) for _ in range(4)]
    peers = {node.identity.peer_id for node in nodes}
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.running())
        await until(lambda: all(node.found == peers - {node.identity.peer_id} for node in nodes))
        assert not await nodes[0].discovery.find(OTHER_RUN)
        bootstrap.discovery.close()
        newcomer = start([bootstrap.address, nodes[2].address])
        await stack.enter_async_context(newcomer.running())
        await until(lambda: newcomer.found == peers)
        await until_found(nodes[0], peers | {newcomer.identity.peer_id})


@pytest.mark.parametrize("seconds", [300.0, -300.0])
async def test_a_node_whose_clock_is_wrong_finds_and_is_found(
    start: Callable[..., Node], wrong_clock: Callable[[float], None], seconds: float
) -> None:
    bootstrap = start()
    right = start([bootstrap.address])
    wrong_clock(seconds)
    wrong = start([bootstrap.address])
    (line,) = wrong.events
    assert line == f"this machine's clock is {seconds:+.0f} s off the swarm's; the DHT goes by the swarm's"
    assert abs(dht_clock.dht_time() - time.time()) < 2  # the node goes by it, too
    async with right.running(), wrong.running():
        await until(lambda: wrong.identity.peer_id in right.found and right.identity.peer_id in wrong.found)


def test_entries_that_are_no_contact_of_their_name_are_told_once(start: Callable[..., Node]) -> None:
    node, other = start(), Identity.generate()
    genuine = node.contact().to_bytes()
    for _ in range(3):
        assert node.discovery._check("somebody", b"junk", RUN) is None
        assert node.discovery._check(other.peer_id, genuine, RUN) is None
    told = [event for event in node.events if "is ignored" in event]
    assert len(told) == 2
    assert told[0].startswith("an entry of the DHT under the name 'somebody' is ignored: ")
    assert told[1].endswith(f"{other.peer_id[-12:]!r} is ignored: it belongs to another peer or run")


def test_works_under_uvloop_started_within_its_loop(tmp_path: Path) -> None:
    async def main() -> None:
        node = Node(tmp_path, [])
        try:
            await asyncio.gather(*(node.discovery.announce(node.contact()) for _ in range(3)), return_exceptions=True)
            assert [signed.contact.peer for signed in await node.discovery.find(RUN)] == [node.identity.peer_id]
        finally:
            node.discovery.close()
        with pytest.raises(DiscoveryLost):
            await node.discovery.find(RUN)

    uvloop.run(main())


async def test_a_restarted_bootstrap_peer_joins_two_dhts_into_one(
    start: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2p.discovery.dht_process.REDIAL_SECONDS", 0.3)
    port = unused_port()
    bootstrap = start(name="bootstrap", port=port)
    old = start([bootstrap.address])
    served = asyncio.create_task(old.discovery.serve())
    await old.discovery.announce(old.contact())
    bootstrap.discovery.close()
    await until(lambda: any("is unreachable: connection refused" in event for event in old.events))
    reborn = start(name="bootstrap", port=port)
    assert reborn.address == bootstrap.address
    new = start([reborn.address])
    await new.discovery.announce(new.contact())
    await until_found(old, {new.identity.peer_id})
    await until_found(new, {old.identity.peer_id})
    await until(lambda: any("is reachable again" in event for event in old.events))
    old.discovery.close()
    await served


async def test_forged_and_stale_contacts_are_dropped(
    start: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = start()
    victim = start([honest.address])
    with monkeypatch.context() as patch:
        patch.setattr(ContactValidator, "validate", lambda self, record: True)
        forger = start([honest.address])
    genuine = victim.contact()
    await victim.discovery.announce(genuine)
    moved = genuine.contact.model_copy(update={"addresses": (("203.0.113.9", 1),), "sequence": next_sequence() + 10})
    forged = SignedContact(contact=moved, signature=genuine.signature)
    other = forger.contact()
    for subkey, signed in ((victim.identity.peer_id, forged), ("nobody", other), (forger.identity.peer_id, forged)):
        # the forger's own DHT believes it, and answers lookups with it
        await forger.discovery._call(
            "store", key_of(RUN), subkey, signed.to_bytes(), expiration_of(signed.contact.sequence)
        )
    assert len(await forger.discovery._call("lookup", key_of(RUN))) == 3
    for finder in (honest, victim):
        assert await finder.discovery.find(RUN) == [genuine]
    # and what an unguarded DHT hands to its node is checked there again
    assert await forger.discovery.find(RUN) == []

    newer = victim.contact()
    await victim.discovery.announce(newer)
    assert await honest.discovery.find(RUN) == [newer]
    with pytest.raises(DiscoveryFailed, match="refused"):
        await victim.discovery.announce(genuine)
    assert await honest.discovery.find(RUN) == [newer]
    outdated = genuine.contact.model_copy(update={"sequence": 1})
    with pytest.raises(DiscoveryFailed, match="next_sequence"):
        await victim.discovery.announce(sign_contact(victim.identity, outdated))


async def test_a_killed_daemon_is_started_again_and_a_killed_dht_is_told(start: Callable[..., Node]) -> None:
    first = start()
    before = set(descendants(os.getpid()))
    node = start([first.address])
    dht, p2pd = (pid for pid in descendants(os.getpid()) if pid not in before)
    await first.discovery.announce(first.contact())
    os.kill(dht, signal.SIGTERM)  # for the whole group: the node's business while it lives
    os.kill(p2pd, signal.SIGKILL)
    async with node.running():
        await until(lambda: any("starting it again" in event for event in node.events))
        await until(lambda: first.identity.peer_id in node.found)
        assert node.discovery.addresses() == [node.address]
    run = asyncio.create_task(node.discovery.run(node.contact, node.hear))
    os.kill(dht, signal.SIGKILL)
    await run
    assert node.events[-1] == "the DHT process has ended; this node keeps the peers that it knows"
    with pytest.raises(DiscoveryLost):
        await node.discovery.find(RUN)


def test_unreachable_bootstrap_peers_are_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2p.discovery.dht_process.PATIENCE_SECONDS", 0.0)
    peer = Identity.generate().peer_id
    refused = f"/ip4/127.0.0.1/tcp/{unused_port()}/p2p/{peer}"
    unknown = f"/dns4/no-such-host.invalid/tcp/7401/p2p/{peer}"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{peer}"
        begun = time.monotonic()
        with pytest.raises(BootstrapUnreachable) as caught:
            Discovery.start([refused, unknown, mute], "127.0.0.1", 0, tmp_path)
    text = str(caught.value)
    assert f"{refused} (connection refused)" in text
    assert unknown in text
    assert f"{mute} (" in text
    assert "\n" not in text
    assert time.monotonic() - begun < 12


def test_a_bootstrap_peer_may_come_late(tmp_path: Path) -> None:
    """It comes when the node tells that it waits: in this thread, since a fork wants no others."""
    port = unused_port()
    identity = Identity.load_or_create(tmp_path / "bootstrap" / "p2pd.key")
    address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{identity.peer_id}"
    events: list[str] = []
    bootstraps: list[Discovery] = []

    def told(event: str) -> None:
        events.append(event)
        if not bootstraps:
            bootstraps.append(Discovery.start([address], "127.0.0.1", port, tmp_path / "bootstrap"))

    discovery = Discovery.start([address], "127.0.0.1", 0, tmp_path / "n", on_event=told)
    assert address in events[0]
    assert bootstraps[0].addresses() == [address]
    discovery.close()
    bootstraps[0].close()


async def test_two_that_name_each_other_and_need_nobody_meet(start: Callable[..., Node], tmp_path: Path) -> None:
    """Whoever comes first finds nobody and goes on alone; the other finds it."""
    ports = [unused_port(), unused_port()]
    keys = [Identity.load_or_create(tmp_path / name / "p2pd.key") for name in "ab"]
    names = [f"/ip4/127.0.0.1/tcp/{port}/p2p/{key.peer_id}" for port, key in zip(ports, keys, strict=True)]
    a, b = (start(names, name, port=port, must_join=False) for name, port in zip("ab", ports, strict=True))
    assert [event for event in a.events if "no bootstrap peer answers yet" in event]
    async with a.running(), b.running():
        await until(lambda: a.found == {b.identity.peer_id} and b.found == {a.identity.peer_id})


def test_mistakes_are_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(BadMultiaddr, match=r"'127\.0\.0\.1:7401'"):
        Discovery.start(["127.0.0.1:7401"], "127.0.0.1", 0, tmp_path)
    assert not list(tmp_path.iterdir())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DhtPortInUse, match=f"DHT port {port} on 127.0.0.1 is in use"):
            Discovery.start([], "127.0.0.1", port, tmp_path)
    with pytest.raises(DhtHostError, match="'nowhere' is not an IP address"):
        Discovery.start([], "nowhere", 0, tmp_path)
    (tmp_path / "p2pd.key").chmod(0o644)
    with pytest.raises(KeyFileMode, match="chmod 600"):
        Discovery.start([], "127.0.0.1", 0, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DiscoveryFailed, match="choose another state_dir"):
        Discovery.start([], "127.0.0.1", 0, tmp_path / "file")


def test_the_announced_address_is_one_that_others_can_dial(tmp_path: Path) -> None:
    named = Discovery.start([], "127.0.0.1", 0, tmp_path / "named", announce_host="node.example.org")
    assert [address.split("/")[1:4] for address in named.addresses()] == [["dns", "node.example.org", "tcp"]]
    named.close()
    anywhere = Discovery.start([], "0.0.0.0", 0, tmp_path / "anywhere")
    addresses = anywhere.addresses()
    assert addresses
    assert not [address for address in addresses if "/0.0.0.0/" in address]
    assert addresses == sorted(addresses, key=lambda text: text.startswith("/ip4/127."))
    assert all(address.endswith(f"/p2p/{anywhere.p2pd_id}") for address in addresses)
    anywhere.close()
