"""A node that is nothing but a mesh and a diary of what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from p2p.channel.hello import Hello, RunIdentity
from p2p.channel.mesh import Mesh
from p2p.contact import Contact, SignedContact, sign_contact
from p2p.identity import Identity
from p2p.protocol.message import Message
from p2p.protocol.model import BadMessage
from p2p.protocol.transfer_messages import Chunk, GetChunk

RUN = RunIdentity(b"r" * 32, {"model": "demo", "outer_lr": 0.7})
DEADLINE_SECONDS = 20.0


def sorted_identities(count: int) -> list[Identity]:
    """New identities, smallest peer id first (it decides about links)."""
    return sorted((Identity.generate() for _ in range(count)), key=lambda identity: identity.peer_id)


def small(request: int) -> Message:
    return GetChunk(request=request, index=0)


def bulk(request: int) -> Message:
    return Chunk(request=request, round=0, index=0)


class Node:
    """MeshHandler that writes everything down. `until` waits for the diary to say something."""

    def __init__(self, identity: Identity | None = None, run: RunIdentity = RUN, **options: Any) -> None:
        self.identity = identity or Identity.generate()
        self.peer = self.identity.peer_id
        self.run = run
        self.diary: list[tuple[str, str, str]] = []
        self.hellos: list[Hello] = []
        self.messages: list[tuple[str, Message, bytes | None]] = []
        self.memory: Callable[[int], Sequence[memoryview] | None] = lambda size: [memoryview(bytearray(size))]
        self.poison: Message | None = None
        self.port = 0
        self._changed = asyncio.Event()
        self.mesh = Mesh(self.identity, run, self, **options)

    async def listen(self, port: int = 0) -> None:
        self.port = await self.mesh.listen("127.0.0.1", port)

    def contact(self, sequence: int = 1, *more: tuple[str, int]) -> Contact:
        return Contact(
            peer=self.peer,
            p2pd="",
            addresses=(*more, ("127.0.0.1", self.port)),
            fingerprint=self.run.fingerprint,
            sequence=sequence,
        )

    def signed_contact(self, sequence: int = 1) -> SignedContact:
        return sign_contact(self.identity, self.contact(sequence))

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition` holds; it is looked at after everything that the mesh tells."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def linked(self, *peers: Node) -> None:
        await self.until(lambda: {node.peer for node in peers} <= self.mesh.peers())

    def said(self, event: str) -> list[tuple[str, str]]:
        """(peer, reason) of all `event`s: up, down, unreachable, refused."""
        return [(peer, reason) for name, peer, reason in self.diary if name == event]

    def _note(self, event: str, peer: str, reason: str = "") -> None:
        self.diary.append((event, peer, reason))
        self._changed.set()

    def open_payload(self, peer: str, message: Message, size: int) -> Sequence[memoryview] | None:
        return self.memory(size)

    def on_message(self, peer: str, message: Message, payload: Sequence[memoryview] | None) -> None:
        if message == self.poison:
            raise BadMessage("poison")
        self.messages.append((peer, message, None if payload is None else b"".join(payload)))
        self._changed.set()

    def on_link_up(self, peer: str, hello: Hello) -> None:
        self.hellos.append(hello)
        self._note("up", peer)

    def on_link_down(self, peer: str, reason: str) -> None:
        self._note("down", peer, reason)

    def on_unreachable(self, peer: str, reason: str) -> None:
        self._note("unreachable", peer, reason)

    def on_refused(self, peer: str, reason: str) -> None:
        self._note("refused", peer, reason)


NodeFactory = Callable[..., Awaitable[Node]]
