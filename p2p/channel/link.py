"""A link: the control lane and the bulk lanes between this node and one peer. It lives and ends as a whole.

The control lane is TLS; small messages need not be fast. Bulk lanes carry tensors in sealed records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Protocol

from p2p.channel.connection import Connection
from p2p.channel.handshake import Established
from p2p.channel.hello import OPEN_MESSAGES, Bye, Contacts, Hello, Refused, decode_one_of
from p2p.channel.lane_choice import choose
from p2p.channel.lanes import LaneUp
from p2p.channel.meter import Meter
from p2p.channel.sealed_transport import SealedTransport
from p2p.channel.tuning import under_way
from p2p.channel.widening import NO_FLOW, Flow, Widening
from p2p.contact import SignedContact
from p2p.protocol.message import Message
from p2p.protocol.messages import encode
from p2p.protocol.model import MAX_MESSAGE_BYTES, BadMessage, PeerId

MAX_CONTROL_QUEUE_BYTES = 8 << 20
LANE_SECONDS = 10.0


class LinkLost(ConnectionError):
    """The link to a peer ended, or there is none: what was being sent may not have arrived."""


class MessageHandler(Protocol):
    """Takes the messages of all links. Called on the loop; BadMessage raised here closes the link with that reason."""

    def open_payload(self, peer: PeerId, message: Message, size: int) -> Sequence[memoryview] | None:
        """Writable memory for a payload of `size` bytes, filled in order (sizes add up to it); None drops it all.

        The memory is written to until `on_message` or the link's end.
        """

    def on_message(self, peer: PeerId, message: Message, payload: Sequence[memoryview] | None) -> None:
        """A message and its payload (None if it has none) are complete. In order within a lane, not between lanes."""


def ignore_contacts(_peer: str, _contacts: Sequence[SignedContact]) -> None:
    """For those who look for nobody."""


class Link:
    """One peer's lanes. `on_end(link, reason)` is called once, when the first of them is lost or `shut` is called.

    `on_contacts(peer, contacts)` hears of whom the peer is linked with; BadMessage raised there closes the link, too.
    """

    def __init__(
        self,
        control: Connection,
        established: Established,
        handler: MessageHandler,
        on_end: Callable[[Link, str], None],
        on_contacts: Callable[[str, Sequence[SignedContact]], None] = ignore_contacts,
    ) -> None:
        self.hello: Hello = established.hello
        self.peer: str = established.hello.peer
        self.id = established.link
        self.secret = established.secret
        self.dialled = established.dialled
        self.handler = handler
        self.ended: str | None = None
        self._control = control
        self._bulk: dict[int, Connection] = {}
        self._lane_added = asyncio.Event()
        self._widening = Widening(under_way)
        self._on_end = on_end
        self.on_contacts = on_contacts
        control.hand_over(_LaneSink(self, 0))

    @property
    def address(self) -> tuple[str, int]:
        return self._control.address

    def has_lane(self, lane: int) -> bool:
        return lane in self._bulk

    @property
    def lanes(self) -> int:
        """Bulk lanes that are open."""
        return len(self._bulk)

    def warm_up(self, now: float) -> None:
        """Let all bulk lanes but the first get as fast as they can; to be called a few times a second."""
        for connection in list(self._bulk.values())[1:]:
            connection.warm_up(now)

    def is_full(self, now: float) -> bool:
        """Whether its bulk lanes carry as much as so many connections can; ask a few times a second."""
        return bool(self._bulk) and self._widening.read(now, self.flow())

    def flow(self) -> Flow:
        """Of its bulk lanes together."""
        flows = [connection.flow() for connection in self._bulk.values()]
        return reduce(Flow.beside, flows) if flows else NO_FLOW

    def allot(self, rate: float) -> None:
        """Send no more bytes a second on all bulk lanes together; young ones have nothing to carry yet."""
        connections = list(self._bulk.values())
        grown = connections[:1] + [connection for connection in connections[1:] if connection.grown]
        for connection in connections:
            connection.allot(rate / len(grown))

    def attach(self, up: LaneUp, meter: Meter) -> None:
        """Add a bulk lane."""
        assert up.lane not in self._bulk, "one connection a lane"
        connection = self._bulk[up.lane] = Connection(_LaneSink(self, up.lane), meter, "bulk")
        SealedTransport(up.tcp, connection, up.sealer, up.opener)
        self._lane_added.set()

    def send(self, data: bytes) -> bool:
        """Queue an encoded message on the control lane. False when the link has ended."""
        if self.ended is not None:
            return False
        if self._control.pending_bytes > MAX_CONTROL_QUEUE_BYTES:
            self.shut("it does not take our messages", tell=False)
            return False
        return self._control.send(data)

    async def send_bulk(self, data: bytes, buffers: Sequence[memoryview]) -> None:
        """Send an encoded message and its payload on the bulk lane that carries it soonest. Raises LinkLost."""
        connection = await self._bulk_lane(sum(buffer.nbytes for buffer in buffers))
        outgoing = connection.enqueue(data, buffers)
        try:
            await outgoing.done
        except ConnectionResetError as error:
            raise LinkLost(f"{self.peer}: {self.ended or error}") from None
        except asyncio.CancelledError:
            connection.withdraw(outgoing)
            raise

    @property
    def outstanding_bytes(self) -> int:
        """What the bulk lanes were given and is not known to have arrived."""
        return sum(connection.outstanding_bytes for connection in self._bulk.values())

    def hasten(self, left: int) -> None:
        """Let the bulk lanes look for more room on their way, for `left` bytes."""
        for connection in self._bulk.values():
            connection.hasten(left // len(self._bulk))

    async def _bulk_lane(self, size: int) -> Connection:
        if not self._bulk and self.ended is None:
            try:
                async with asyncio.timeout(LANE_SECONDS):
                    await self._lane_added.wait()
            except TimeoutError:
                self.shut(f"no bulk lane within {LANE_SECONDS:.0f} s")
        if self.ended is not None:
            raise LinkLost(f"{self.peer}: {self.ended}")
        connections = list(self._bulk.values())
        if len(connections) == 1:
            return connections[0]
        return connections[choose([connection.outlook() for connection in connections], size)]

    def shut(self, reason: str, tell: bool = True) -> None:
        """End the link; `tell` gives the reason to the peer too."""
        if self.ended is not None:
            return
        self.ended = reason
        self._lane_added.set()
        if tell:
            goodbye = encode(Bye(reason=reason[:500]))
            for connection in self._connections():
                if connection.between_frames:
                    connection.send(goodbye)
                connection.close(reason)
        else:
            for connection in self._connections():
                connection.abort(reason)
        self._on_end(self, reason)

    async def wait_closed(self, seconds: float) -> None:
        """Wait until all its sockets are closed; those that are not by then are cut off."""
        try:
            async with asyncio.timeout(seconds):
                for connection in self._connections():
                    await connection.wait_closed()
        except TimeoutError:
            for connection in self._connections():
                connection.abort("did not close")

    def _connections(self) -> list[Connection]:
        return [self._control, *self._bulk.values()]


class _LaneSink:
    """ConnectionSink of one lane."""

    def __init__(self, link: Link, lane: int) -> None:
        self._link = link
        self._lane = lane
        self._message: Message
        self._payload: Sequence[memoryview] | None = None
        self._dropped = False

    def connected(self, connection: Connection) -> None:
        """Nothing to do: a lane joins its link, or makes it, when it is ready."""

    def frame_begins(self, message: bytes, payload_bytes: int) -> Sequence[memoryview] | None:
        self._message = decode_one_of(message, OPEN_MESSAGES, MAX_MESSAGE_BYTES)
        self._payload, self._dropped = None, False
        if payload_bytes:
            if self._lane == 0:
                raise BadMessage("payload on the control lane")
            self._payload = self._link.handler.open_payload(self._link.peer, self._message, payload_bytes)
            self._dropped = self._payload is None
        return self._payload

    def frame_ends(self) -> None:
        link, message = self._link, self._message
        if isinstance(message, Bye | Refused):
            link.shut(f"closed by the peer: {message.reason}", tell=False)
        elif isinstance(message, Contacts):
            if link.ended is None:
                link.on_contacts(link.peer, message.contacts)
        elif not self._dropped and link.ended is None:
            payload, self._payload = self._payload, None
            link.handler.on_message(link.peer, message, payload)

    def broken(self, reason: str) -> None:
        self._link.shut(reason)

    def lost(self, reason: str) -> None:
        self._link.shut(reason if self._lane == 0 else f"bulk lane {self._lane}: {reason}", tell=False)
