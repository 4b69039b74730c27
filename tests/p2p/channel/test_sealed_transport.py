"""A transport of sealed records, over a pair of sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator

import pytest

import p2p.channel.sealed_transport
from p2p.channel.sealed_transport import BURST_BYTES, RETRY_SECONDS, SealedTransport
from p2p.channel.sealing import OVERHEAD_BYTES, RECORD_BYTES, Opener, Sealer
from p2p.protocol.model import BadMessage

KEYS = bytes(32), bytes([1]) * 32
DEADLINE_SECONDS = 10.0


class Diary:
    """A protocol that writes down what it is told, and takes bytes in pieces of `room`."""

    def __init__(self, room: int = RECORD_BYTES) -> None:
        self.transport: SealedTransport | None = None
        self.received = bytearray()
        self.told: list[str] = []
        self.error: Exception | None = None
        self._room = memoryview(bytearray(room))
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _tell(self, event: str) -> None:
        self.told.append(event)
        self._changed.set()

    def connection_made(self, transport: SealedTransport) -> None:
        self.transport = transport

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self._room[:nbytes]
        self._changed.set()

    def eof_received(self) -> None:
        self._tell("eof")

    def pause_writing(self) -> None:
        self._tell("pause")

    def resume_writing(self) -> None:
        self._tell("resume")

    def garbled(self, error: BadMessage) -> None:
        self.error = error
        self._tell("garbled")
        assert self.transport is not None
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = self.error or exc
        self._tell("lost")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    ours.setblocking(False)
    theirs.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def connect(tcp: socket.socket, diary: Diary, first: bool) -> SealedTransport:
    mine, yours = KEYS if first else KEYS[::-1]
    return SealedTransport(tcp, diary, Sealer(mine), Opener(yours))


Ends = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize("room", [1, 1000, RECORD_BYTES])
async def test_what_is_written_arrives_in_order_in_memory_of_any_size(ends: Ends, room: int) -> None:
    a, b = Diary(), Diary(room)
    ours, theirs = connect(ends[0], a, True), connect(ends[1], b, False)
    size = 3000 if room == 1 else 3 * RECORD_BYTES + 5
    pieces = [os.urandom(10), os.urandom(size), b"", os.urandom(100)]
    ours.writelines(pieces)
    ours.write(b"the end")
    wanted = b"".join(pieces) + b"the end"
    await b.until(lambda: len(b.received) == len(wanted))
    assert b.received == wanted
    theirs.write(b"and back")
    await a.until(lambda: a.received == b"and back")
    ours.abort()
    theirs.abort()
    await a.until(lambda: a.told == ["lost"])
    await b.until(lambda: "lost" in b.told)


async def test_a_writer_is_held_up_by_a_reader_that_does_not_read_and_goes_on_when_it_does(ends: Ends) -> None:
    a, b = Diary(), Diary()
    ours = connect(ends[0], a, True)
    ours.set_write_buffer_limits(high=200_000)
    data = memoryview(os.urandom(RECORD_BYTES))
    ours.write(data)
    written = len(data)
    while "pause" not in a.told:
        await asyncio.sleep(0)
        ours.write(data)
        written += len(data)
    assert 200_000 < ours.get_write_buffer_size() < 200_000 + 2 * RECORD_BYTES
    theirs = connect(ends[1], b, False)
    await a.until(lambda: a.told == ["pause", "resume"])
    await b.until(lambda: len(b.received) == written)
    assert b.received == bytes(data) * (written // len(data))
    assert ours.get_write_buffer_size() == 0
    ours.abort()
    theirs.abort()
    await b.until(lambda: "lost" in b.told)


async def test_it_fills_a_buffer_of_which_the_kernel_does_not_say_that_it_has_room() -> None:
    """A socket of this kind is said to be writable when three quarters of its buffer are free."""
    a = Diary()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        transport = connect(ours, a, True)
        for _ in range(4):
            transport.write(os.urandom(RECORD_BYTES))
        left = transport.get_write_buffer_size()
        assert left > 0
        theirs.recv(left // 10)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while transport.get_write_buffer_size() == left:  # noqa: ASYNC110 - the kernel raises no event, that is the point
                await asyncio.sleep(RETRY_SECONDS)
        assert transport.get_write_buffer_size() > 0
        transport.abort()
        await a.until(lambda: a.told == ["lost"])


async def test_a_turn_of_the_loop_sends_only_so_much(ends: Ends) -> None:
    for tcp in ends:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * BURST_BYTES)
    a, b = Diary(), Diary()
    ours, theirs = connect(ends[0], a, True), connect(ends[1], b, False)
    size = 4 * BURST_BYTES
    for _ in range(0, size, RECORD_BYTES):
        ours.write(bytes(RECORD_BYTES))
    assert ours.get_write_buffer_size() > 2 * BURST_BYTES
    await b.until(lambda: len(b.received) == size)
    ours.abort()
    theirs.abort()
    await b.until(lambda: "lost" in b.told)


async def test_padding_arrives_and_is_dropped(ends: Ends) -> None:
    a, b = Diary(), Diary()
    ours, theirs = connect(ends[0], a, True), connect(ends[1], b, False)
    ours.write(b"be")
    ours.pad(2 * RECORD_BYTES + 10)
    ours.pad(0)
    ours.write(b"fore")
    await b.until(lambda: b.received == b"before")
    ours.abort()
    theirs.abort()
    await b.until(lambda: "lost" in b.told)
    ours.pad(1)


async def test_close_sends_what_was_written_and_ends_when_the_other_side_does(ends: Ends) -> None:
    a, b = Diary(), Diary()
    ours, theirs = connect(ends[0], a, True), connect(ends[1], b, False)
    data = os.urandom(20 * RECORD_BYTES)
    ours.write(data)
    theirs.write(b"unread")
    ours.close()
    assert ours.is_closing()
    ours.write(b"too late")
    ours.close()
    await b.until(lambda: b.told == ["eof", "lost"])
    assert b.received == data
    assert b.error is None
    await a.until(lambda: a.told[-1:] == ["lost"])
    assert a.error is None
    assert ends[0].fileno() == ends[1].fileno() == -1


async def test_who_never_ends_its_direction_is_cut_off(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p2p.channel.sealed_transport, "LINGER_SECONDS", 0.01)
    a = Diary()
    connect(ends[0], a, True).close()
    await a.until(lambda: a.told == ["lost"])


async def test_a_record_that_cannot_be_opened_is_told(ends: Ends) -> None:
    a = Diary()
    connect(ends[0], a, True)
    room = memoryview(bytearray(10 + OVERHEAD_BYTES))
    Sealer(bytes([2]) * 32).seal(bytes(10), room)
    ends[1].send(room)
    await a.until(lambda: a.told == ["garbled", "lost"])
    assert isinstance(a.error, BadMessage)
    assert not a.received


async def test_a_connection_that_breaks_is_lost_with_the_reason(ends: Ends) -> None:
    a = Diary()
    ours = connect(ends[0], a, True)
    ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset instead of an end
    ends[1].close()
    await a.until(lambda: a.told == ["lost"])
    assert isinstance(a.error, ConnectionResetError)
    ours.write(b"nothing")
    ours.close()
    ours.abort()
    await asyncio.sleep(0)
    assert a.told == ["lost"]


async def test_it_tells_of_its_socket(ends: Ends) -> None:
    a = Diary()
    ours = connect(ends[0], a, True)
    assert ours.get_extra_info("socket") is ends[0]
    assert ours.get_extra_info("peername") == ends[1].getsockname()
    assert ours.get_extra_info("ssl_object") is None
    ours.abort()
    await a.until(lambda: "lost" in a.told)
    assert ours.get_extra_info("peername", "gone") == "gone"
