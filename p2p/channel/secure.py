"""TLS connections, opened, and ended cleanly whenever they are given up half-way.

Left to themselves event loops leave a socket open when a TLS handshake is cancelled before its first byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

from p2p.channel.connection import Connection
from p2p.channel.greeting import SHUTDOWN_SECONDS


async def secure_accepted(
    connection: Connection, accepted: socket.socket, context: ssl.SSLContext, seconds: float
) -> None:
    """The listener's side of TLS over `accepted`. Raises OSError (ssl.SSLError is one)."""
    loop = asyncio.get_running_loop()
    handshake = asyncio.ensure_future(
        loop.connect_accepted_socket(
            lambda: connection,
            accepted,
            ssl=context,
            ssl_handshake_timeout=seconds,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
        )
    )
    try:
        await asyncio.shield(handshake)
    except asyncio.CancelledError:  # ends the handshake instead of cancelling it
        connection.abort("not needed")
        with contextlib.suppress(OSError):
            accepted.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            await handshake
        raise


async def secure_dialled(
    connection: Connection, address: tuple[str, int], context: ssl.SSLContext, seconds: float
) -> None:
    """Connect to `address` and run the dialler's side of TLS. Raises OSError (ssl.SSLError is one)."""
    loop = asyncio.get_running_loop()
    tcp, _ = await loop.create_connection(asyncio.Protocol, *address)
    try:
        secured = await loop.start_tls(
            tcp,
            connection,
            context,
            # no server_hostname: libp2p forbids a server name, and there is none to check
            ssl_handshake_timeout=seconds,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
        )
    # a cancellation too must not leave the socket open
    except BaseException:
        tcp.abort()
        raise
    assert secured is not None, "the transport was not closing"
    connection.connection_made(secured)
