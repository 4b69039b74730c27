"""Accepts connections and sees them through the handshake, within bounded time, memory and number."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from p2p.channel.certificate import BadCertificate
from p2p.channel.connection import Connection
from p2p.channel.greeting import (
    HANDSHAKE_SECONDS,
    ListenerGreeting,
    OnEstablished,
)
from p2p.channel.handshake import Refusal, Terms
from p2p.channel.lanes import LaneUp, SecretOf, answer_lane, begins_with_magic
from p2p.channel.meter import Meter
from p2p.channel.secure import secure_accepted
from p2p.errors import SwarmError
from p2p.protocol.model import BadMessage

MAX_UNPROVEN = 64
"""Connections in the handshake at once. One more ends the oldest: a flood cannot keep honest peers out for long."""

ACCEPT_PAUSE_SECONDS = 0.1


class CannotListen(SwarmError):
    """The data plane's address cannot be used."""


class PortInUse(CannotListen):
    """Somebody else listens there."""


def _bind(host: str, port: int) -> socket.socket:
    where = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotListen(f"cannot listen on {where}: {error.strerror}: choose another --host") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"port {port} on {host} is in use: choose another with --port, or stop the program that listens there"
            ) from None
        raise CannotListen(f"cannot listen on {where}: {error.strerror}: choose another --host or --port") from None
    listening.setblocking(False)
    return listening


class LaneDoor(NamedTuple):
    """Where bulk lanes come in."""

    secret_of: SecretOf
    attach: Callable[[LaneUp], None]


class Listener:
    """`report(who, reason)`: somebody was refused; `who` is the peer id if it was proved, else the address."""

    def __init__(
        self,
        terms: Terms,
        context: ssl.SSLContext,
        meter: Meter,
        on_established: OnEstablished,
        lane_door: LaneDoor,
        report: Callable[[str, str], None],
        handshake_seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        self._terms, self._context, self._meter = terms, context, meter
        self._on_established, self._lane_door, self._report = on_established, lane_door, report
        self._seconds = handshake_seconds
        self._unproven: dict[asyncio.Task[None], str] = {}
        """Address of each, the oldest first."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._unclaimed: set[socket.socket] = set()
        self._loop: asyncio.AbstractEventLoop
        self._socket: socket.socket | None = None

    def start(self, host: str, port: int) -> int:
        """Listen; returns the port (useful with port 0). Raises CannotListen, PortInUse."""
        self._socket = _bind(host, port)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._accept)
        return int(self._socket.getsockname()[1])

    async def close(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> None:
        """Take one connection; called again while more are waiting."""
        if self._socket is None:
            return
        try:
            accepted, address = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is free: look again when others may have been closed
            self._loop.remove_reader(self._socket)
            self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._accept_again)
            return
        accepted.setblocking(False)
        if len(self._unproven) >= MAX_UNPROVEN:
            oldest = next(iter(self._unproven))
            self._report(self._unproven.pop(oldest), f"{MAX_UNPROVEN} newer connections have not proved who they are")
            oldest.cancel()
        task = asyncio.create_task(self._greet(accepted, f"{address[0]}:{address[1]}"))
        self._unclaimed.add(accepted)
        self._tasks.add(task)
        self._unproven[task] = f"{address[0]}:{address[1]}"
        task.add_done_callback(self._greeted)
        task.add_done_callback(partial(self._close_unclaimed, accepted))

    def _accept_again(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._accept)

    def _close_unclaimed(self, accepted: socket.socket, _task: asyncio.Task[None]) -> None:
        """A task that was cancelled, or that let nobody in, leaves its socket to us."""
        if accepted in self._unclaimed:
            self._unclaimed.remove(accepted)
            accepted.close()

    def _greeted(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._unproven.pop(task, None)

    async def _greet(self, accepted: socket.socket, address: str) -> None:
        greeting = ListenerGreeting(self._terms, self._on_established)
        connection = Connection(greeting, self._meter)
        try:
            async with asyncio.timeout(self._seconds):
                if await begins_with_magic(accepted):
                    await self._let_lane_in(accepted)
                    return
                self._unclaimed.remove(accepted)
                await secure_accepted(connection, accepted, self._context, self._seconds + 1)
                await greeting.done
            return
        except Refusal as refusal:
            if refusal.code != "duplicate":
                self._report(refusal.peer or address, refusal.reason)
            await connection.wait_closed()  # it reads why
        except TimeoutError:
            self._report(address, f"did not prove who it is within {self._seconds:g} s")
        except (ssl.SSLError, BadCertificate) as error:
            self._report(address, f"does not speak our protocol: {getattr(error, 'reason', None) or error}")
        except BadMessage as error:
            self._report(address, f"asked for a bulk lane of a link that it does not know: {error}")
        except OSError:
            pass  # it hung up: a port scan, a health check, or the slower of two dials; nothing to tell
        finally:
            if greeting.outcome is None:
                connection.abort("not linked")

    async def _let_lane_in(self, accepted: socket.socket) -> None:
        up = await answer_lane(accepted, self._lane_door.secret_of)
        if up is not None:
            self._unclaimed.remove(accepted)
            self._lane_door.attach(up)
