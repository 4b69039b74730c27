"""Drives the handshake over a connection: TLS identity first, then messages, then hands the connection over."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from p2p.channel.certificate import ALPN, BadCertificate, peer_id_of
from p2p.channel.connection import Connection
from p2p.channel.frames import MAX_PAYLOAD_BYTES
from p2p.channel.handshake import DiallerHandshake, Established, Handshake, ListenerHandshake, Refusal, Terms
from p2p.protocol.messages import encode
from p2p.protocol.model import MAX_MESSAGE_BYTES

HANDSHAKE_SECONDS = 10.0
SHUTDOWN_SECONDS = 1.0

OnEstablished = Callable[[Connection, Established], None]
"""Takes the connection over (`Connection.hand_over`); called between two frames."""


class HandshakeBroken(ConnectionError):
    """The connection ended before the handshake did."""


class Greeting(ABC):
    """ConnectionSink until the handshake is over. `done`: the outcome, or Refusal or HandshakeBroken."""

    def __init__(self, terms: Terms, on_established: OnEstablished) -> None:
        self._terms = terms
        self._on_established = on_established
        self._message = b""
        self._connection: Connection
        self._handshake: Handshake
        self.outcome: Established | None = None
        """Set when the handshake has succeeded: the connection is no longer ours then."""
        self.done: asyncio.Future[Established] = asyncio.get_running_loop().create_future()

    @abstractmethod
    def _begin(self, connection: Connection) -> Handshake:
        """Check what TLS has shown and make the handshake. Raises Refusal, BadCertificate."""

    def connected(self, connection: Connection) -> None:
        self._connection = connection
        try:
            self._handshake = self._begin(connection)
        except (Refusal, BadCertificate) as error:
            self._fail(error)
            connection.abort(str(error))
            return
        connection.parser.max_message = self._handshake.limit
        connection.parser.max_payload = 0
        for message in self._handshake.start():
            connection.send(encode(message))

    def frame_begins(self, message: bytes, payload_bytes: int) -> Sequence[memoryview] | None:
        assert payload_bytes == 0, "the parser lets none through"
        self._message = message
        return None

    def frame_ends(self) -> None:
        connection, handshake = self._connection, self._handshake
        try:
            replies = handshake.receive(self._message)
        except Refusal as refusal:
            self._fail(refusal)
            if refusal.told is not None:
                connection.send(encode(refusal.told))
            connection.close(refusal.reason)
            return
        for reply in replies:
            connection.send(encode(reply))
        connection.parser.max_message = handshake.limit
        if handshake.outcome is not None:
            self.outcome = handshake.outcome
            connection.parser.max_message, connection.parser.max_payload = MAX_MESSAGE_BYTES, MAX_PAYLOAD_BYTES
            self._on_established(connection, handshake.outcome)
            if not self.done.done():
                self.done.set_result(handshake.outcome)

    def broken(self, reason: str) -> None:
        self._fail(Refusal("identity", reason, None))
        self._connection.abort(reason)

    def lost(self, reason: str) -> None:
        self._fail(HandshakeBroken(reason))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # whoever waited may have gone: no complaint about that


class ListenerGreeting(Greeting):
    """The other side dialled."""

    def _begin(self, connection: Connection) -> Handshake:
        if connection.protocol_name() != ALPN:
            raise BadCertificate(f"does not speak {ALPN}")
        return ListenerHandshake(self._terms)


class DiallerGreeting(Greeting):
    """We dialled, and mean `peer`."""

    def __init__(self, terms: Terms, on_established: OnEstablished, peer: str) -> None:
        super().__init__(terms, on_established)
        self._peer = peer

    def _begin(self, connection: Connection) -> Handshake:
        proven = peer_id_of(connection.peer_certificate())
        if proven != self._peer:
            who = "this node itself" if proven == self._terms.identity.peer_id else proven
            raise Refusal("identity", f"{who} answers at its address", None, self._peer)
        if connection.protocol_name() != ALPN:
            raise BadCertificate(f"does not speak {ALPN}")
        return DiallerHandshake(self._terms, self._peer)
