"""A socket between two ranks on one machine: whole messages, and descriptors beside them."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Sequence
from typing import TypeVar

from swarm.train.ranks.messages import MAX_BYTES, Message, decode, encode

M = TypeVar("M")
MAX_DESCRIPTORS = 8


class LinkEnded(ConnectionError):
    """The other end is gone."""


class RankLink:
    """One end. SOCK_SEQPACKET keeps the boundaries of messages, so there is nothing to frame."""

    def __init__(self, sock: socket.socket) -> None:
        assert sock.type == socket.SOCK_SEQPACKET
        self.socket = sock

    @classmethod
    def pair(cls) -> tuple[RankLink, socket.socket]:
        """Our end, and the socket to hand to a child."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Raises LinkEnded."""
        data = encode(message)
        assert len(data) <= MAX_BYTES, f"{type(message).__name__} of {len(data)} bytes"
        try:
            socket.send_fds(self.socket, [data], list(descriptors))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise LinkEnded(str(error)) from None

    def receive(self, kind: type[M], seconds: float | None = None) -> tuple[M, list[int]]:
        """The next message, of that kind, and the descriptors beside it. Raises LinkEnded, TimeoutError, ValueError."""
        self.socket.settimeout(seconds)
        try:
            data, descriptors, flags, _ = socket.recv_fds(self.socket, MAX_BYTES, MAX_DESCRIPTORS)
        except ConnectionResetError as error:
            raise LinkEnded(str(error)) from None
        if not data:
            raise LinkEnded("the other end has closed the link")
        if flags & socket.MSG_TRUNC:
            raise ValueError("a message that is too long")
        message = decode(data)
        if not isinstance(message, kind):
            raise ValueError(f"{message.kind!r} where {kind.__name__} was due")
        return message, descriptors

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether the other end is gone; waits so long for that, in any thread, and reads nothing."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        return bool(poll.poll(int(seconds * 1000)))

    def close(self) -> None:
        self.socket.close()


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
