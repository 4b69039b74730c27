"""Level (c): a real port. Strangers and authenticated peers send broken frames while an honest peer talks on.

The victim (tests/fuzz/victim.py) is a process of its own, so that its memory is only its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from p2p.channel.certificate import client_context
from p2p.channel.frames import HEADER, frame_head
from p2p.channel.handshake import DiallerHandshake, Established, Refusal, Terms
from p2p.channel.hello import MAX_HELLO_BYTES, OPEN_MESSAGES, RunIdentity
from p2p.channel.lanes import MAGIC, dial_lane
from p2p.channel.sealing import OVERHEAD_BYTES, RECORD_BYTES, Sealer
from p2p.contact import Contact
from p2p.identity import Identity
from p2p.protocol.message import Message
from p2p.protocol.messages import encode
from p2p.protocol.transfer_messages import Chunk, NotAvailable
from tests.fuzz.hostile import Hostile
from tests.fuzz.mutate import mutated
from tests.fuzz.storm import Tally, resident_bytes
from tests.p2p.channel.nodes import Node, small
from tests.p2p.channel.test_handshake import terms
from tests.p2p.member_swarm import FINGERPRINT

THEIR_RUN = RunIdentity(FINGERPRINT)
IDENTITIES = [Identity.generate() for _ in range(100)]
"""Of the attackers, who come again and again: what a node keeps of all it ever met is bounded, but not small."""
ROOT = Path(__file__).resolve().parent.parent.parent
ANSWER_SECONDS = 30.0
RECOVERY_SECONDS = 60.0
"""After a storm the victim commits again within so long."""
FRAMES_A_LINK = 40
ERRORS = (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, TimeoutError, Refusal)


class Victim:
    """The process under attack."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        peer, port = process.stdout.readline().split()
        self.peer, self.port = peer, int(port)

    @property
    def memory(self) -> int:
        return resident_bytes(self._process.pid)

    def facts(self) -> dict[str, Any]:
        """What it says of itself; an error if it is no more."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


@contextlib.contextmanager
def victim(log: Path) -> Iterator[Victim]:
    """Runs until the end of the block; nothing may be on its standard error then."""
    with log.open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.victim"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        try:
            yield Victim(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    assert log.read_text() == "", log.read_text()[:2000]


class Attack:
    """Attackers of all kinds, one after the other."""

    def __init__(self, random: Random, target: Victim, tally: Tally) -> None:
        self.random, self.target, self.tally = random, target, tally
        self.hostile = Hostile(random)
        self._context = client_context()
        self._learn()

    def _terms(self, identity: Identity) -> Terms:
        return terms(identity, THEIR_RUN, instance=self.random.randbytes(8))

    def _learn(self) -> None:
        self.corpus = []
        for kind in (*OPEN_MESSAGES.values(),) * 10:
            message = self.hostile.message(kind)
            self.hostile.learn(message)
            if len(encode(message)) < 20_000:
                self.corpus.append(encode(message))

    async def run(self, goal: int) -> None:
        """Until so many frames are counted, by all attackers together."""
        kinds: tuple[Callable[[], Any], ...] = (
            self.stranger,
            self.half_way,
            self.peer,
            self.peer,
            self.peer,
            self.peer,
        )
        while self.tally.frames < goal:
            with contextlib.suppress(*ERRORS):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self.random.choice(kinds)()

    async def stranger(self) -> None:
        """No TLS, or half of one; a lane of no link."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target.port)
        hello = bytes.fromhex("1603010200010001fc0303") + self.random.randbytes(500)
        lane = MAGIC + self.random.randbytes(self.random.choice((0, 30, 33, 100)))
        writer.write(self.random.choice((mutated(self.random, hello), b"GET / HTTP/1.1\r\n\r\n", hello[:9], lane)))
        self.tally.count("stranger without TLS")
        if self.random.random() < 0.5:
            writer.write_eof()
        await self._end(reader, writer)

    async def half_way(self) -> None:
        """TLS, then something else than a proof and a hello."""
        reader, writer = await self._open()
        handshake = DiallerHandshake(self._terms(self.random.choice(IDENTITIES)), self.target.peer)
        messages = [encode(message) for message in handshake.receive(await self._frame(reader))]
        wrong = self.random.randrange(2)
        messages[wrong] = mutated(self.random, messages[wrong], self.corpus)
        for data in messages:
            writer.write(self._framed(data))
        self.tally.count("a handshake gone wrong")
        await self._end(reader, writer)

    async def peer(self) -> None:
        """A proved peer, whose frames go wrong sooner or later."""
        reader, writer = await self._open()
        identity = self.random.choice(IDENTITIES)
        handshake = DiallerHandshake(self._terms(identity), self.target.peer)
        for message in handshake.receive(await self._frame(reader)):
            writer.write(frame_head(encode(message)))
        for message in handshake.receive(await self._frame(reader)):
            writer.write(frame_head(encode(message)))
        assert handshake.outcome is not None
        await self._speak(reader, writer)
        if self.random.random() < 0.3:
            with contextlib.suppress(*ERRORS):
                await self._bulk_lane(handshake.outcome)
        await self._end(reader, writer)

    async def _bulk_lane(self, link: Established) -> None:
        up = await dial_lane(("127.0.0.1", self.target.port), link.link, link.secret, 1, ANSWER_SECONDS)
        with up.tcp:
            for _ in range(self.random.randrange(1, FRAMES_A_LINK)):
                records = self._sealed(up.sealer, self._framed(self._data(), bulk=True))
                await asyncio.get_running_loop().sock_sendall(up.tcp, records)
                self.tally.count("frame of a proved peer, with payload")

    def _sealed(self, sealer: Sealer, data: bytes) -> bytes:
        """Mostly good records, of any sizes."""
        size = self.random.choice((1, 20, 1000, RECORD_BYTES))
        pieces = [data[at : at + size] for at in range(0, min(len(data), 50 * size), size)]
        room = memoryview(bytearray(len(data) + OVERHEAD_BYTES * len(pieces)))
        stop = 0
        for piece in pieces:
            stop += sealer.seal(piece, room[stop:])
        sealed = bytes(room[:stop])
        return mutated(self.random, sealed) if self.random.random() < 0.02 else sealed

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self.random.randrange(1, FRAMES_A_LINK)):
            if writer.is_closing() or reader.at_eof():
                return
            writer.write(self._framed(self._data()))
            self.tally.count("frame of a proved peer")
            await writer.drain()
            await asyncio.sleep(0)

    def _data(self) -> bytes:
        data = self.random.choice(self.corpus)
        match self.random.randrange(8):
            case 0:
                return mutated(self.random, data, self.corpus)
            case 1:
                message: Message = self.hostile.message(self.random.choice(list(OPEN_MESSAGES.values())))
                return encode(message)[: 1 << 20]
        return data

    def _framed(self, data: bytes, bulk: bool = False) -> bytes:
        """Mostly true; else a lie about a length, or a payload where none may be."""
        payload = self.random.randbytes(self.random.choice((0, 1, 1000, 100_000))) if bulk else b""
        if self.random.random() < 0.02:
            lies = [self.random.choice((0, 1, 255, 1 << 20, (1 << 32) - 1)) for _ in range(2)]
            return HEADER.pack(*lies) + data + payload
        return frame_head(data, len(payload)) + payload

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.target.port, ssl=self._context, server_hostname="")

    async def _frame(self, reader: asyncio.StreamReader) -> bytes:
        length, _ = HEADER.unpack(await reader.readexactly(HEADER.size))
        assert length <= MAX_HELLO_BYTES
        return await reader.readexactly(length)

    async def _end(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read what it has to say; hang up first now and then."""
        try:
            if self.random.random() < 0.8:
                async with asyncio.timeout(0.5):
                    while await reader.read(1 << 16):
                        pass
        finally:
            writer.transport.abort()


async def storm_on(target: Victim, random: Random, frames: int, tally: Tally) -> None:
    """Attack, while an honest peer asks and gets its answers over one link that stays up."""
    goal = tally.frames + frames
    honest = Node(run=THEIR_RUN)
    await honest.listen()
    contact = Contact(
        peer=target.peer,
        p2pd="",
        addresses=(("127.0.0.1", target.port),),
        fingerprint=honest.run.fingerprint,
        sequence=1,
    )
    honest.mesh.dial(contact)
    await honest.until(lambda: honest.mesh.peers())
    talking = asyncio.create_task(_talk(honest, target.peer))
    try:
        await asyncio.gather(*(Attack(random, target, tally).run(goal) for _ in range(4)))
        assert not talking.done(), talking.exception()
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        downs = honest.said("down")
        await honest.mesh.close()
    assert downs == []
    await _goes_on(target)


async def _goes_on(target: Victim) -> None:
    """It commits two more rounds."""
    wanted = target.facts()["rounds"] + 2
    async with asyncio.timeout(RECOVERY_SECONDS):
        while target.facts()["rounds"] < wanted:  # noqa: ASYNC110 - it only says when asked
            await asyncio.sleep(0.2)


async def _talk(honest: Node, to: str) -> None:
    """Ask for a chunk, get it, ask again."""
    for number in itertools.count(1):
        assert honest.mesh.send(to, small(number))
        async with asyncio.timeout(ANSWER_SECONDS):
            await honest.until(lambda number=number: _answered(honest, number))
        honest.messages.clear()
        await asyncio.sleep(0.02)


def _answered(honest: Node, number: int) -> bool:
    return any(
        isinstance(message, NotAvailable | Chunk) and message.request == number for _, message, _ in honest.messages
    )
