"""How a bulk lane joins a link, over real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from p2p.channel.lanes import MAGIC, LaneRefused, LaneUp, SecretOf, answer_lane, begins_with_magic, dial_lane
from p2p.channel.sealing import OVERHEAD_BYTES, Opener, Sealer
from p2p.protocol.model import BadMessage

LINK, SECRET = bytes(16), os.urandom(64)
SECONDS = 10.0

Answering = Callable[[SecretOf], Awaitable[tuple[tuple[str, int], "asyncio.Task[LaneUp | None]"]]]


@pytest.fixture
async def answering() -> AsyncIterator[Answering]:
    """A listener that answers one connection; its address, and what comes of it."""
    sockets: list[socket.socket] = []

    async def make(secret_of: SecretOf) -> tuple[tuple[str, int], asyncio.Task[LaneUp | None]]:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        sockets.append(listening)

        async def answer() -> LaneUp | None:
            accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
            up = None
            try:
                up = await answer_lane(accepted, secret_of)
            finally:
                if up is None:
                    accepted.close()
            return up

        return listening.getsockname(), asyncio.create_task(answer())

    yield make
    for one in sockets:
        one.close()


def passes(sealer: Sealer, opener: Opener) -> bool:
    record = memoryview(bytearray(4 + OVERHEAD_BYTES))
    sealer.seal(b"ping", record)
    opener.buffer()[: len(record)] = record
    opener.received(len(record))
    out = bytearray(4)
    opener.open(memoryview(out))
    return out == b"ping"


async def test_both_sides_have_keys_that_fit(answering: Answering) -> None:
    asked: list[tuple[bytes, int]] = []

    def secret_of(link: bytes, lane: int) -> bytes:
        asked.append((link, lane))
        return SECRET

    address, answer = await answering(secret_of)
    ours = await dial_lane(address, LINK, SECRET, 3, SECONDS)
    theirs = await answer
    assert theirs is not None
    with ours.tcp, theirs.tcp:
        assert asked == [(LINK, 3)] == [(theirs.link, theirs.lane)]
        assert (ours.link, ours.lane) == (LINK, 3)
        assert passes(ours.sealer, theirs.opener)
        assert passes(theirs.sealer, ours.opener)
        assert ours.tcp.getsockname() == theirs.tcp.getpeername()


async def test_a_link_that_is_not_there_is_a_refusal(answering: Answering) -> None:
    address, answer = await answering(lambda link, lane: None)
    with pytest.raises(LaneRefused, match="no link that this lane could join"):
        await dial_lane(address, LINK, SECRET, 1, SECONDS)
    assert await answer is None


async def test_a_listener_that_does_not_know_the_secret_is_not_believed(answering: Answering) -> None:
    address, answer = await answering(lambda link, lane: os.urandom(64))
    with pytest.raises(ConnectionError, match="does not know the link"):
        await dial_lane(address, LINK, SECRET, 1, SECONDS)
    with pytest.raises(LaneRefused):
        await answer


async def test_a_dialler_that_does_not_know_the_secret_is_not_believed(answering: Answering) -> None:
    address, answer = await answering(lambda link, lane: SECRET)
    with socket.create_connection(address) as stranger:
        stranger.sendall(MAGIC + LINK + b"\x01" + bytes(16) + Sealer(bytes(32)).greeting())
        with pytest.raises(BadMessage, match="was not sealed with this lane's key"):
            await answer


async def test_a_first_record_with_something_in_it_is_bad(answering: Answering) -> None:
    address, answer = await answering(lambda link, lane: SECRET)
    with socket.create_connection(address) as stranger:
        stranger.sendall(MAGIC + LINK + b"\x01" + bytes(16) + b"\x01\0\0\0" + bytes(16))
        with pytest.raises(BadMessage, match="no empty record comes first"):
            await answer


async def test_another_beginning_is_no_lane(answering: Answering) -> None:
    address, answer = await answering(lambda link, lane: SECRET)
    with socket.create_connection(address) as stranger:
        stranger.sendall(b"SWAN" + bytes(33))
        assert await answer is None


async def test_a_listener_that_says_nothing_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        await dial_lane(silent.getsockname(), LINK, SECRET, 1, 0.05)


async def test_nobody_there_is_an_oserror() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    with pytest.raises(ConnectionRefusedError):
        await dial_lane(address, LINK, SECRET, 1, SECONDS)


@pytest.mark.parametrize(("first", "magic"), [(MAGIC, True), (b"\x16\x03\x01", False), (b"", False)])
async def test_the_first_byte_tells_a_lane_and_stays_to_be_read(first: bytes, magic: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        looking = asyncio.create_task(begins_with_magic(ours))
        await asyncio.sleep(0)
        assert not looking.done()
        if first:
            theirs.sendall(first)
        else:
            theirs.shutdown(socket.SHUT_WR)
        assert await looking is magic
        assert ours.recv(10) == first
