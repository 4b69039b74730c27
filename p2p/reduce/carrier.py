"""What the reduce needs of the links to other members; p2p.channel.mesh.Mesh has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from p2p.channel.widening import Flow
from p2p.protocol.message import Message


class Carrier(Protocol):
    def send(self, peer: str, message: Message) -> bool:
        """Send a small message; False if there is no link."""

    async def send_bulk(self, peer: str, message: Message, buffers: Sequence[memoryview]) -> None:
        """Send a message with payload, waiting for room. Raises ConnectionError when the link is lost."""

    def lanes(self, peer: str) -> int:
        """How many messages with payload can be sent at a time to this peer."""

    def outstanding(self, peer: str) -> int:
        """Bytes of payload messages that are not known to have arrived."""

    def flow(self, peer: str) -> Flow:
        """What messages with payload to this peer and from it have carried."""

    def allot(self, paces: Mapping[str, float]) -> None:
        """Payloads to these peers go no faster than so many bytes a second, those to others as fast as they may."""

    def hasten(self, peer: str, left: int) -> None:
        """There is more room now on the way to this peer; `left`: bytes that it will get."""
