"""The mesh: links to all peers, whoever dialled, and their messages.

Whom it dials and whom it tells of whom is decided in `Acquaintances`; this is the shell around it, and around links.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from math import inf
from random import Random
from typing import Literal, Protocol

from p2p.channel.acquaintances import Acquaintances, Dial, Tell
from p2p.channel.certificate import client_context, server_context
from p2p.channel.connection import Connection
from p2p.channel.dial import DialSettings, dial_any
from p2p.channel.dialler import NEVER
from p2p.channel.greeting import HANDSHAKE_SECONDS
from p2p.channel.handshake import Established, Refusal, Terms, refusal
from p2p.channel.hello import MAX_LANES, PROTOCOL_VERSION, Contacts, Hello, RunIdentity
from p2p.channel.lanes import LaneUp, dial_lane
from p2p.channel.link import Link, LinkLost, MessageHandler
from p2p.channel.listener import LaneDoor, Listener
from p2p.channel.meter import LaneKind, Load, Meter, WireBytes
from p2p.channel.sealing import SECRET_BYTES
from p2p.channel.widening import NO_FLOW, Flow
from p2p.contact import MAX_KNOWN, Contact, SignedContact
from p2p.identity import Identity
from p2p.protocol.message import Message
from p2p.protocol.messages import encode
from p2p.protocol.model import PeerId

CLOSE_SECONDS = 2.0
LANE_PAUSE_SECONDS = 2.0
"""A bulk lane that does not come up is dialled again after pauses up to this."""


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
        self._acquaintances = Acquaintances(self.peer_id, run.fingerprint, Random(), dials=role == "member")
        self._meter = Meter()
        self._links: dict[str, Link] = {}
        self._lost: dict[str, bytes] = {}
        self._attempts: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._widened: set[Link] = set()
        """Links to which a lane is being added, or to which none can be."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        terms = Terms(identity, self._hello_to, admit, self._decide)
        self._dial_settings = DialSettings(
            terms, client_context(), self._meter, self._on_established, handshake_seconds
        )
        self._listener = Listener(
            terms,
            server_context(identity),
            self._meter,
            self._on_established,
            LaneDoor(self._secret_of, self._attach),
            handler.on_refused,
            handshake_seconds,
        )

    # --- for the owner

    async def listen(self, host: str, port: int) -> int:
        """Accept links; returns the port. Raises CannotListen, PortInUse (SwarmErrors)."""
        return self._listener.start(host, port)

    def introduce_self(self, signed: SignedContact) -> None:
        """Our own contact, which every peer is told; again whenever it is signed anew."""
        self._acquaintances.introduce_self(signed, self._now())
        self._wake()

    def meet(self, signed: SignedContact, source: str) -> None:
        """`source` has found a peer of this run: link with it, and keep it linked for as long as it lives.

        Peers tell each other of those that they are linked with; who is heard of in that way is met like this, too.
        Raises BadMessage for a forged contact.
        """
        self._acquaintances.hear(signed, source, self._now())
        self._wake()

    def remember(self, signed: SignedContact) -> None:
        """Of an earlier life: see `met`. Raises BadMessage for a forged contact."""
        self._acquaintances.remember(signed, self._now())
        self._wake()

    def met(self) -> list[SignedContact]:
        """The newest contacts of peers that were linked: worth being remembered."""
        return self._acquaintances.met()

    def dial(self, contact: Contact) -> None:
        """Keep a link to that peer until `forget`, signed or not. Again with a newer contact: updates it."""
        if contact.peer != self.peer_id and contact.addresses:
            self._acquaintances.dial(contact, self._now())
            self._wake()

    def forget(self, peer: PeerId) -> None:
        """Dial that peer no more, and drop its contact; a link that is up stays (see `drop`)."""
        self._lost.pop(peer, None)
        self._acquaintances.forget(peer)
        self._give_up(peer)

    def drop(self, peer: PeerId, reason: str) -> None:
        """End the link to that peer, if there is one, and tell it why."""
        link = self._links.get(peer)
        if link is not None:
            link.shut(reason)

    def contacts(self) -> list[SignedContact]:
        """The newest contact of everybody of this run that we heard of, our own too: verified."""
        return self._acquaintances.contacts()

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

    def lanes(self, peer: PeerId) -> int:
        """Connections to this peer for messages with payload: so many can be sent at a time."""
        link = self._links.get(peer)
        return link.lanes if link else 0

    def outstanding(self, peer: PeerId) -> int:
        """Bytes of payload messages to this peer that are not known to have arrived."""
        link = self._links.get(peer)
        return link.outstanding_bytes if link else 0

    def flow(self, peer: PeerId) -> Flow:
        """What the bulk lanes to this peer have carried."""
        link = self._links.get(peer)
        return link.flow() if link else NO_FLOW

    def allot(self, paces: Mapping[PeerId, float]) -> None:
        """Payloads to these peers go no faster than so many bytes a second, those to others as fast as they may."""
        for peer, link in self._links.items():
            link.allot(paces.get(peer, inf))

    def hasten(self, peer: PeerId, left: int) -> None:
        """The uplink has more room for this peer than of late; `left`: bytes that are to be sent to it."""
        link = self._links.get(peer)
        if link is not None:
            link.hasten(left)

    def widen(self) -> None:
        """To be called a few times a second: links whose bulk lanes are full get one more."""
        now = self._now()
        for link in self._links.values():
            link.warm_up(now)
            full = link.is_full(now)  # asked of all: it sees to their pace, too
            if full and link.dialled and link.lanes >= self._bulk_lanes and link not in self._widened:
                self._widened.add(link)
                self._spawn(self._widen(link))

    def wire_bytes(self, lane: LaneKind | Literal["all"] = "all") -> WireBytes:
        """(sent, received) of all connections since the start, as the kernel counted them, encrypted."""
        return self._meter.total(lane)

    def bulk_load(self) -> Load:
        """How much the open bulk lanes have carried."""
        return self._meter.bulk_load()

    @property
    def wire_bytes_exact(self) -> bool:
        """False where the kernel does not count; `wire_bytes` is then that of the frames."""
        return self._meter.exact

    async def close(self) -> None:
        """Say goodbye, flush what was sent, close every socket. Takes CLOSE_SECONDS at most."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        links = list(self._links.values())
        for link in links:  # first, so that peers read it before they see other connections end
            link.shut("leaving")
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.close()
        await asyncio.gather(*(link.wait_closed(CLOSE_SECONDS) for link in links))
        async with asyncio.timeout(CLOSE_SECONDS):  # those cut off need a turn of the loop
            await self._meter.idle.wait()

    # --- the handshake asks

    def _hello_to(self, peer: str) -> Hello:
        return Hello(
            version=PROTOCOL_VERSION,
            peer=self.peer_id,
            instance=self.instance,
            secret=os.urandom(SECRET_BYTES),
            lost=b"" if peer in self._links else self._lost.get(peer, b""),
            role=self._role,
            fingerprint=self._run.fingerprint,
            run=self._run.packed(),
        )

    def _decide(self, new: Established) -> Refusal | None:
        hello = new.hello
        current = self._links.get(hello.peer)
        if self._closing:
            return refusal("policy", "this node is leaving", peer=hello.peer)
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
        if current is not None:
            restarted = current.hello.instance != hello.instance
            current.shut("the peer restarted" if restarted else "the peer connected anew", tell=False)
        link = Link(connection, new, self._handler, self._on_link_end, self._on_contacts)
        self._links[hello.peer] = link
        self._acquaintances.link_up(hello.peer, hello.role == "member", self._now())
        self._wake()
        self._handler.on_link_up(hello.peer, hello)
        if new.dialled:
            for lane in range(1, self._bulk_lanes + 1):
                self._spawn(self._add_lane(link, lane))

    def _on_link_end(self, link: Link, reason: str) -> None:
        if self._links.get(link.peer) is not link:
            return
        del self._links[link.peer]
        self._widened.discard(link)
        self._lost[link.peer] = link.id
        if len(self._lost) > MAX_KNOWN:
            del self._lost[next(iter(self._lost))]
        self._acquaintances.link_down(link.peer, self._now())
        self._wake()
        self._handler.on_link_down(link.peer, reason)

    def _on_contacts(self, peer: str, contacts: Sequence[SignedContact]) -> None:
        self._acquaintances.told(peer, contacts, self._now())
        self._wake()

    # --- dialling

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _wake(self) -> None:
        """Something has changed: look again what is due, and when the next will be."""
        if self._closing:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self._acquaintances.wake_at()
        if when < NEVER:
            self._timer = asyncio.get_running_loop().call_at(when, self._step)

    def _step(self) -> None:
        self._timer = None
        for effect in self._acquaintances.step(self._now()):
            match effect:
                case Dial(contact):
                    self._give_up(contact.peer)
                    self._attempts[contact.peer] = self._spawn(self._attempt(contact))
                case Tell(peer, contacts):
                    self.send(peer, Contacts(contacts=contacts))
        self._wake()

    async def _attempt(self, contact: Contact) -> None:
        peer = contact.peer
        try:
            await dial_any(self._dial_settings, contact)
        except (Refusal, OSError) as error:
            setbacks = self._acquaintances.failed(peer, error, self._now())
            self._wake()
            for setback in setbacks:
                tell = self._handler.on_refused if setback.kind == "refused" else self._handler.on_unreachable
                tell(peer, setback.reason)
        if self._attempts.get(peer) is asyncio.current_task():
            del self._attempts[peer]

    def _give_up(self, peer: str) -> None:
        attempt = self._attempts.pop(peer, None)
        if attempt is not None:
            attempt.cancel()

    async def _add_lane(self, link: Link, lane: int) -> None:
        """Dial a bulk lane; the link ends if that does not work, so that both sides start anew together."""
        pause = 0.05
        while link.ended is None:
            try:
                await self._dial_lane(link, lane)
            except TimeoutError:
                link.shut(f"bulk lane {lane}: timed out")
            except OSError as error:  # it may have to hear yet that the link is in use, or its goodbye is on its way
                if pause > LANE_PAUSE_SECONDS:
                    link.shut(f"bulk lane {lane}: {error}")
            else:
                return
            await asyncio.sleep(pause)
            pause *= 2

    async def _widen(self, link: Link) -> None:
        """Dial one more bulk lane; if that does not work, the link does with those that it has."""
        try:
            await self._dial_lane(link, link.lanes + 1)
        except OSError:
            return
        self._widened.discard(link)

    async def _dial_lane(self, link: Link, lane: int) -> None:
        """Raises LaneRefused, OSError."""
        self._attach(await dial_lane(link.address, link.id, link.secret, lane, self._dial_settings.seconds))

    def _secret_of(self, link_id: bytes, lane: int) -> bytes | None:
        link = self._joinable(link_id, lane)
        return None if link is None else link.secret

    def _attach(self, up: LaneUp) -> None:
        link = self._joinable(up.link, up.lane)
        if link is None:  # it has ended meanwhile
            up.tcp.close()
        else:
            link.attach(up, self._meter)

    def _joinable(self, link_id: bytes, lane: int) -> Link | None:
        """The link that this lane can join."""
        links = (link for link in self._links.values() if hmac.compare_digest(link.id, link_id))
        link = next(links, None)
        return link if link is not None and 0 < lane <= MAX_LANES and not link.has_lane(lane) else None

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
