"""How a bulk lane joins its link: a plain connection to the port where links are accepted.

    dialler  -> listener  MAGIC, the link's id, the lane's number, a salt
    listener -> dialler   a salt, an empty record
    dialler  -> listener  an empty record

Both know the link's secret by its control lane; the empty records prove that, and from then on all is sealed
(p2p/channel/sealing.py). A listener that has no such link, or has it no longer or not yet, hangs up.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from p2p.channel.sealing import OVERHEAD_BYTES, SALT_BYTES, Opener, Sealer, fresh_salt, lane_keys
from p2p.channel.tuning import tune
from p2p.protocol.model import BadMessage

MAGIC = b"SWRM"
"""No TLS connection begins so."""
LINK_BYTES = 16
_REQUEST = struct.Struct(f"<{len(MAGIC)}s{LINK_BYTES}sB{SALT_BYTES}s")


class LaneRefused(ConnectionError):
    """The listener hung up: it has no link that the lane could join."""


@dataclass(frozen=True)
class LaneUp:
    """A connection that has joined its link. Whoever gets it closes it."""

    link: bytes
    lane: int
    tcp: socket.socket
    sealer: Sealer
    opener: Opener


SecretOf = Callable[[bytes, int], bytes | None]
"""The secret of the link with this id, if that lane may join it."""


async def dial_lane(address: tuple[str, int], link: bytes, secret: bytes, lane: int, seconds: float) -> LaneUp:
    """Connect a bulk lane to the listener of the other side. Raises LaneRefused, OSError (TimeoutError among them)."""
    async with asyncio.timeout(seconds):
        tcp = await _connect(address)
        try:
            return await _ask(tcp, link, secret, lane)
        # a cancellation too must not leave the socket open
        except BaseException:
            tcp.close()
            raise


async def _ask(tcp: socket.socket, link: bytes, secret: bytes, lane: int) -> LaneUp:
    loop = asyncio.get_running_loop()
    salt = fresh_salt()
    await loop.sock_sendall(tcp, _REQUEST.pack(MAGIC, link, lane, salt))
    answer = await _read(tcp, SALT_BYTES + OVERHEAD_BYTES)
    keys = lane_keys(secret, link, lane, salt, answer[:SALT_BYTES])
    sealer, opener = Sealer(keys.dialler), Opener(keys.listener)
    try:
        _expect_greeting(opener, answer[SALT_BYTES:])
    except BadMessage as error:
        raise ConnectionError(f"whoever answers at its address does not know the link: {error}") from None
    await loop.sock_sendall(tcp, sealer.greeting())
    return LaneUp(link, lane, tcp, sealer, opener)


async def answer_lane(tcp: socket.socket, secret_of: SecretOf) -> LaneUp | None:
    """The listener's side, for a connection that began with MAGIC. None: hang up, no link wants it.

    Raises BadMessage for who does not know the link's secret, and OSError.
    """
    request = await _read(tcp, _REQUEST.size)
    magic, link, lane, theirs = _REQUEST.unpack(request)
    secret = secret_of(link, lane) if magic == MAGIC else None
    if secret is None:
        return None
    ours = fresh_salt()
    keys = lane_keys(secret, link, lane, theirs, ours)
    sealer, opener = Sealer(keys.listener), Opener(keys.dialler)
    await asyncio.get_running_loop().sock_sendall(tcp, ours + sealer.greeting())
    _expect_greeting(opener, await _read(tcp, OVERHEAD_BYTES))
    return LaneUp(link, lane, tcp, sealer, opener)


async def begins_with_magic(tcp: socket.socket) -> bool:
    """Whether the other side asks for a lane; looks at the first byte that it sends, and leaves it where it is."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(tcp, _settle, readable)
    try:
        await readable
    finally:
        loop.remove_reader(tcp)
    return tcp.recv(1, socket.MSG_PEEK) == MAGIC[:1]


def _settle(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)


def _expect_greeting(opener: Opener, record: bytes) -> None:
    room = opener.buffer()
    room[: len(record)] = record
    opener.received(len(record))
    if opener.whole != 0:
        raise BadMessage("no empty record comes first")
    opener.open(memoryview(bytearray()))


async def _read(tcp: socket.socket, size: int) -> bytes:
    """So many bytes and none beyond. Raises LaneRefused at the end of the stream."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        more = await loop.sock_recv(tcp, size - len(data))
        if not more:
            raise LaneRefused("the other side has no link that this lane could join")
        data += more
    return data


async def _connect(address: tuple[str, int]) -> socket.socket:
    """A connected socket of the first of the host's addresses that answers. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(*address, type=socket.SOCK_STREAM)
    errors: list[OSError] = []
    for family, kind, protocol, _, where in found:
        tcp = socket.socket(family, kind, protocol)
        tcp.setblocking(False)
        tune(tcp)
        try:
            await loop.sock_connect(tcp, where)
            return tcp
        except OSError as error:
            tcp.close()
            errors.append(error)
        # a cancellation too must not leave the socket open
        except BaseException:
            tcp.close()
            raise
    raise errors[0]
