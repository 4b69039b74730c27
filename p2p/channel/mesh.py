"""The mesh: links to all peers, whoever dialled, and their messages."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Literal, Protocol

from p2p.channel.certificate import client_context, server_context
from p2p.channel.connection import Connection
from p2p.channel.dial import DialSettings, dial_any, dial_one
from p2p.channel.dialler import Dialler, DiallerEvents
from p2p.channel.greeting import HANDSHAKE_SECONDS
from p2p.channel.handshake import Established, Refusal, Terms, refusal
from p2p.channel.hello import MAX_HELLO_CONTACTS, MAX_LANES, PROTOCOL_VERSION, Hello, RunIdentity
from p2p.channel.link import Link, LinkLost, MessageHandler
from p2p.channel.listener import Listener
from p2p.channel.meter import Lane, Meter, WireBytes
from p2p.contact import Contact, ContactBook, SignedContact
from p2p.identity import Identity
from p2p.protocol.messages import Message, encode
from p2p.protocol.model import PeerId

CLOSE_SECONDS = 2.0


class MeshHandler(MessageHandler, Protocol):
    """What the mesh tells its owner. All methods are called on the loop."""

    def on_link_up(self, peer: PeerId, hello: Hello) -> None:
        """Messages to this peer can be sent from now on, and come."""

    def on_link_down(self, peer: PeerId, reason: str) -> None:
        """The link ended; what was sent last may not have arrived. Another may come up at once."""

    def on_unreachable(self, peer: PeerId, reason: str) -> None:
        """The first redial after `on_link_down` failed: a strong hint that the peer is dead."""

    def on_refused(self, peer: str, reason: str) -> None:
        """A peer (its address if it did not prove who it is) was refused, or refused us."""


class Mesh:
    """This node's links.

    `admit` may keep peers out: it gets the Hello of a proven peer of this run and returns a reason, or None.
    Observers may have another fingerprint than the run's.
    """

    def __init__(
        self,
        identity: Identity,
        run: RunIdentity,
        handler: MeshHandler,
        *,
        bulk_lanes: int = 1,
        role: Literal["member", "observer"] = "member",
        admit: Callable[[Hello], str | None] = lambda _hello: None,
        handshake_seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        assert 1 <= bulk_lanes <= MAX_LANES, f"1 to {MAX_LANES} bulk lanes"
        self.peer_id = identity.peer_id
        self.instance = os.urandom(8)
        self._run, self._handler, self._role = run, handler, role
        self._bulk_lanes = bulk_lanes
        self._book = ContactBook(run.fingerprint)
        self._meter = Meter()
        self._links: dict[str, Link] = {}
        self._lost: dict[str, bytes] = {}
        self._dialers: dict[str, Dialler] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        terms = Terms(identity, self._hello_to, admit, self._decide)
        self._dial_settings = DialSettings(
            terms, client_context(), self._meter, self._on_established, handshake_seconds
        )
        self._listener = Listener(
            terms, server_context(identity), self._meter, self._on_established, handler.on_refused, handshake_seconds
        )

    # --- for the owner

    async def listen(self, host: str, port: int) -> int:
        """Accept links; returns the port. Raises CannotListen, PortInUse (SwarmErrors)."""
        return self._listener.start(host, port)

    def dial(self, contact: Contact) -> None:
        """Keep a link to that peer until `forget`. Again with a newer contact: updates it."""
        if contact.peer == self.peer_id or not contact.addresses or self._closing:
            return
        dialler = self._dialers.get(contact.peer)
        if dialler is not None:
            dialler.update(contact)
            return
        events = DiallerEvents(self._handler.on_refused, self._handler.on_unreachable)
        self._dialers[contact.peer] = Dialler(contact, self._attempt, events, linked=contact.peer in self._links)

    def forget(self, peer: PeerId) -> None:
        """Dial that peer no more, and drop its contact; a link that is up stays (see `drop`)."""
        self._book.discard(peer)
        self._lost.pop(peer, None)
        dialler = self._dialers.pop(peer, None)
        if dialler is not None:
            self._spawn(dialler.close())

    def drop(self, peer: PeerId, reason: str) -> None:
        """End the link to that peer, if there is one, and tell it why."""
        link = self._links.get(peer)
        if link is not None:
            link.shut(reason)

    def share(self, signed: SignedContact) -> bool:
        """Tell peers of this contact (our own first of all) in every Hello from now on. True if it is new."""
        return self._book.add(signed)

    def contacts(self) -> list[SignedContact]:
        """All contacts learned from `share` and from Hellos, our own too if shared: verified, newest of each peer."""
        return self._book.all()

    def peers(self) -> set[str]:
        """Peers with a link."""
        return set(self._links)

    def hello(self, peer: PeerId) -> Hello | None:
        """What a linked peer said of itself."""
        link = self._links.get(peer)
        return link.hello if link else None

    def send(self, peer: PeerId, message: Message) -> bool:
        """Queue a small message; never waits. False if there is no link."""
        link = self._links.get(peer)
        return link is not None and link.send(encode(message))

    async def send_bulk(self, peer: PeerId, message: Message, buffers: Sequence[memoryview]) -> None:
        """Send a message with a payload of all `buffers`, without copying them; waits while the link is full.

        On return the buffers may be reused. After a cancellation a frame that had begun is still sent from them.
        Raises LinkLost; ValueError for more than MAX_PAYLOAD_BYTES.
        """
        link = self._links.get(peer)
        if link is None:
            raise LinkLost(f"{peer}: no link")
        await link.send_bulk(encode(message), buffers)

    def wire_bytes(self, lane: Lane | Literal["all"] = "all") -> WireBytes:
        """(sent, received) of all connections since the start, as the kernel counted them: TLS included."""
        return self._meter.total(lane)

    @property
    def wire_bytes_exact(self) -> bool:
        """False where the kernel does not count; `wire_bytes` is then the frames without TLS."""
        return self._meter.exact

    async def close(self) -> None:
        """Say goodbye, flush what was sent, close every socket. Takes CLOSE_SECONDS at most."""
        self._closing = True
        links = list(self._links.values())
        for link in links:  # first, so that peers read it before they see other connections end
            link.shut("leaving")
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(self._listener.close(), *(dialler.close() for dialler in self._dialers.values()))
        await asyncio.gather(*(link.wait_closed(CLOSE_SECONDS) for link in links))
        async with asyncio.timeout(CLOSE_SECONDS):  # those cut off need a turn of the loop
            await self._meter.idle.wait()

    # --- the handshake asks

    def _hello_to(self, peer: str) -> Hello:
        return Hello(
            version=PROTOCOL_VERSION,
            peer=self.peer_id,
            instance=self.instance,
            lane=0,
            session=b"",
            lost=b"" if peer in self._links else self._lost.get(peer, b""),
            role=self._role,
            fingerprint=self._run.fingerprint,
            run=self._run.packed(),
            contacts=self._book.excerpt(MAX_HELLO_CONTACTS, (self.peer_id, *self._links)),
        )

    def _decide(self, new: Established) -> Refusal | None:
        hello = new.hello
        current = self._links.get(hello.peer)
        if self._closing:
            return refusal("policy", "this node is leaving", peer=hello.peer)
        if hello.lane > 0:
            fits = current and current.id == hello.session and not current.has_lane(hello.lane)
            return None if fits else refusal("session", "no link that this lane could join", peer=hello.peer)
        if current is None or current.hello.instance != hello.instance or current.id == hello.lost:
            return None
        return refusal("duplicate", "another connection is already in use", peer=hello.peer)

    # --- links come and go

    def _on_established(self, connection: Connection, new: Established) -> None:
        hello = new.hello
        current = self._links.get(hello.peer)
        if self._closing:
            connection.abort("leaving")
            return
        if hello.lane > 0:
            if current is None or current.id != hello.session or current.has_lane(hello.lane):
                connection.abort("its link has ended")
            else:
                current.attach(hello.lane, connection)
            return
        if current is not None:
            restarted = current.hello.instance != hello.instance
            current.shut("the peer restarted" if restarted else "the peer connected anew", tell=False)
        for signed in hello.contacts:
            self._book.add(signed)
        link = self._links[hello.peer] = Link(connection, new, self._handler, self._on_link_end)
        dialler = self._dialers.get(hello.peer)
        if dialler is not None:
            dialler.link_up()
        self._handler.on_link_up(hello.peer, hello)
        if new.dialled:
            for lane in range(1, self._bulk_lanes + 1):
                self._spawn(self._add_lane(link, lane))

    def _on_link_end(self, link: Link, reason: str) -> None:
        if self._links.get(link.peer) is not link:
            return
        del self._links[link.peer]
        self._lost[link.peer] = link.id
        if not self._closing and link.peer not in self._dialers:
            contact = self._book.get(link.peer)
            if contact is not None:  # it dialled us; now we find out whether it is still there
                self.dial(contact)
        self._handler.on_link_down(link.peer, reason)
        dialler = self._dialers.get(link.peer)
        if dialler is not None:
            dialler.link_down()

    async def _attempt(self, contact: Contact) -> None:
        await dial_any(self._dial_settings, contact)

    async def _add_lane(self, link: Link, lane: int) -> None:
        """Dial a bulk lane; the link ends if that does not work, so that both sides start anew together."""
        pause = 0.05
        while link.ended is None:
            try:
                await dial_one(self._dial_settings, link.peer, link.address, lane, link.id)
            except Refusal as refused:
                if refused.code != "session" or pause > 2.0:
                    link.shut(f"bulk lane {lane}: {refused.reason}")
            except OSError as error:
                link.shut(f"bulk lane {lane}: {error or 'timed out'}")
            else:
                return
            await asyncio.sleep(pause)
            pause *= 2

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
