"""Ask a node how it is, without taking part: one authenticated control lane as an observer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

from p2p.channel.certificate import BadCertificate, client_context, peer_id_of
from p2p.channel.connection import Connection
from p2p.channel.greeting import SHUTDOWN_SECONDS, DiallerGreeting, HandshakeBroken
from p2p.channel.handshake import Established, Handshake, Refusal, Terms
from p2p.channel.hello import PROTOCOL_VERSION, Hello
from p2p.channel.link import Link
from p2p.channel.meter import Meter
from p2p.channel.sealing import SECRET_BYTES
from p2p.errors import SwarmError
from p2p.identity import Identity
from p2p.protocol.message import Message
from p2p.protocol.messages import Commit, SignedRecord, Status
from p2p.protocol.model import PeerId


class NoAnswer(SwarmError):
    """Nobody, or nobody who speaks our protocol, answers at the address."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a node told of itself. `record`: the last one it committed, None if there is none yet."""

    hello: Hello
    status: Status
    record: SignedRecord | None


async def observe(host: str, port: int, seconds: float) -> Observation:
    """Connect with a fresh identity, wait for the node's status and last record, say goodbye. Raises NoAnswer."""
    where = f"{host}:{port}"
    observer = _Observer()
    try:
        async with asyncio.timeout(seconds):
            return await observer.ask(host, port, seconds)
    except TimeoutError:
        raise NoAnswer(f"{where} gave no answer within {seconds:g} s; is that the data port of a node?") from None
    except Refusal as refusal:
        raise NoAnswer(f"{where} refused to answer: {refusal.reason}") from None
    except (HandshakeBroken, BadCertificate) as error:
        raise NoAnswer(f"{where} does not speak Swarm's protocol ({error}); is that the data port of a node?") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise NoAnswer(f"nothing answers at {where} ({reason}); is the node running, and is that its port?") from None
    finally:
        await observer.close()


class _Greeting(DiallerGreeting):
    """Means whoever answers: an observer sends nothing, so it has nothing to lose to an impostor."""

    def _begin(self, connection: Connection) -> Handshake:
        self._peer = peer_id_of(connection.peer_certificate())
        return super()._begin(connection)


def _anybody(_who: object) -> None:
    """No objection."""


class _Observer:
    """The owner of the one link."""

    def __init__(self) -> None:
        self._identity = Identity.generate()
        self._link: Link | None = None
        self._answer: asyncio.Future[Observation] = asyncio.get_running_loop().create_future()
        self._status: Status | None = None

    async def ask(self, host: str, port: int, seconds: float) -> Observation:
        terms = Terms(self._identity, self._hello, _anybody, _anybody)
        greeting = _Greeting(terms, self._on_established, peer="")
        connection = Connection(greeting, Meter())
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                host,
                port,
                ssl=client_context(),
                server_hostname="",
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
            await greeting.done
            return await self._answer
        finally:
            if self._link is None and not connection.closing:
                connection.abort("observer gave up")

    async def close(self) -> None:
        if self._link is not None:
            self._link.shut("observed")
            await self._link.wait_closed(SHUTDOWN_SECONDS)

    def _hello(self, _peer: str) -> Hello:
        return Hello(
            version=PROTOCOL_VERSION,
            peer=self._identity.peer_id,
            instance=os.urandom(8),
            secret=os.urandom(SECRET_BYTES),
            lost=b"",
            role="observer",
            fingerprint=b"",
            run=b"",
        )

    def _on_established(self, connection: Connection, established: Established) -> None:
        self._link = Link(connection, established, self, self._on_end)

    def _on_end(self, _link: Link, reason: str) -> None:
        if not self._answer.done():
            self._answer.set_exception(HandshakeBroken(reason))
            self._answer.exception()  # nobody may be waiting any more

    def open_payload(self, peer: PeerId, message: Message, size: int) -> Sequence[memoryview] | None:  # noqa: ARG002
        """An observer takes no tensors."""
        return None

    def on_message(self, peer: PeerId, message: Message, payload: Sequence[memoryview] | None) -> None:  # noqa: ARG002
        """A Status, then, if anything was committed, a Commit."""
        if isinstance(message, Status):
            self._status = message
            if message.height < 0:
                self._finish(None)
        elif isinstance(message, Commit) and self._status is not None:
            self._finish(message.signed)

    def _finish(self, record: SignedRecord | None) -> None:
        assert self._link is not None
        assert self._status is not None
        if not self._answer.done():
            self._answer.set_result(Observation(self._link.hello, self._status, record))
