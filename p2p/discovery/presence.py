"""A node's presence in its run: it tells where it listens, links with whoever is found, and remembers whom it met."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from p2p.channel.mesh import Mesh
from p2p.contact import Contact, SignedContact, sign_contact
from p2p.contact_file import BadContactFile, load_contacts, save_contacts
from p2p.discovery.contact_entry import next_sequence
from p2p.discovery.discovery import Discovery
from p2p.discovery.multiaddress import parse_bootstrap_peers
from p2p.identity import Identity
from p2p.protocol.model import BadMessage

SAVE_SECONDS = 0.25
"""Whom a node has met is on disk within this: one that is killed sooner, and has no bootstrap list, has lost them."""
MAX_STRANGERS = 64
"""Nodes of other runs that are dialled once, so that the refusal tells both operators what differs."""


@dataclass(frozen=True)
class Place:
    """Where a node lives."""

    run: str
    """Name of the run, under which nodes look for each other."""
    fingerprint: bytes
    port: int
    """Of the data plane."""
    memory: Path
    """File of the contacts met."""
    announce_host: str | None = None


@asynccontextmanager
async def present(
    identity: Identity, discovery: Discovery, mesh: Mesh, place: Place, on_event: Callable[[str], None]
) -> AsyncIterator[None]:
    """While open: the node is to be found, and finds. `on_event` gets lines for a person."""
    presence = _Presence(identity, discovery, mesh, place, on_event)
    presence.remember()
    mesh.introduce_self(presence.contact())
    tasks = {asyncio.create_task(discovery.run(presence.contact, presence.found))}
    tasks.add(asyncio.create_task(presence.save_for_ever()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        presence.save()


class _Presence:
    def __init__(
        self, identity: Identity, discovery: Discovery, mesh: Mesh, place: Place, on_event: Callable[[str], None]
    ) -> None:
        self._identity, self._discovery, self._mesh, self._place = identity, discovery, mesh, place
        self._on_event = on_event
        hosts = [place.announce_host] if place.announce_host else hosts_of(discovery)
        self._addresses = tuple((host, place.port) for host in hosts)
        self._sequence = 0
        self._saved: set[object] = set()
        self._strangers: set[str] = set()

    def contact(self) -> SignedContact:
        """Ours, signed anew."""
        self._sequence = next_sequence(self._sequence)
        signed = sign_contact(
            self._identity,
            Contact(
                peer=self._identity.peer_id,
                p2pd=self._discovery.p2pd_id,
                addresses=self._addresses,
                fingerprint=self._place.fingerprint,
                sequence=self._sequence,
                run=self._place.run,
            ),
        )
        self._mesh.introduce_self(signed)
        return signed

    def found(self, signed: SignedContact) -> None:
        """The DHT knows of a peer."""
        peer = signed.contact.peer
        if signed.contact.fingerprint == self._place.fingerprint:
            self._mesh.meet(signed, "DHT")
        elif peer not in self._strangers and len(self._strangers) < MAX_STRANGERS:
            self._strangers.add(peer)
            self._mesh.dial(signed.contact)

    def remember(self) -> None:
        """Take up the contacts of an earlier life."""
        try:
            for signed in load_contacts(self._place.memory):
                self._mesh.remember(signed)
        except (BadContactFile, BadMessage) as error:
            self._on_event(str(error))

    async def save_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            self.save()

    def save(self) -> None:
        """If somebody new was met, or somebody moved."""
        met = self._mesh.met()
        places: set[object] = {(signed.contact.peer, signed.contact.addresses) for signed in met}
        if places == self._saved:
            return
        self._saved = places
        try:
            save_contacts(self._place.memory, met)
        except BadContactFile as error:
            self._on_event(str(error))


def hosts_of(discovery: Discovery) -> list[str]:
    """The addresses that the DHT daemon found this machine to have; the data plane listens on the same.

    Loopback only where there is no other: elsewhere it would lead a peer to itself.
    """
    hosts = list(dict.fromkeys(address.host for address in parse_bootstrap_peers(discovery.addresses())))
    return [host for host in hosts if not _is_loopback(host)] or hosts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
