"""msgpack frames over the socket pair that joins a node with its DHT process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import msgpack

_MAX_BUFFER_BYTES = 64 << 20
_MAX_BACKLOG_BYTES = 1 << 20


def new_unpacker() -> msgpack.Unpacker:
    return msgpack.Unpacker(use_list=False, max_buffer_size=_MAX_BUFFER_BYTES)


def pack(frame: tuple[Any, ...]) -> bytes:
    return bytes(msgpack.packb(frame))


class FrameLink(asyncio.Protocol):
    """Calls `on_frame` for each frame that arrives and `on_lost` once, when the other process is gone."""

    def __init__(
        self,
        on_frame: Callable[[tuple[Any, ...]], None],
        on_lost: Callable[[], None],
        unpacker: msgpack.Unpacker | None = None,
    ) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._unpacker = unpacker or new_unpacker()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        self.data_received(b"")  # frames that were read before there was a loop

    def data_received(self, data: bytes) -> None:
        self._unpacker.feed(data)
        for frame in self._unpacker:
            self._on_frame(frame)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio.Protocol
        self._transport = None
        self._on_lost()

    def send(self, frame: tuple[Any, ...]) -> bool:
        """Queue a frame; False when the link is gone or the other process has stopped reading."""
        transport = self._transport
        if transport is None or transport.get_write_buffer_size() > _MAX_BACKLOG_BYTES:
            return False
        transport.write(pack(frame))
        return True

    def abort(self) -> None:
        if self._transport is not None:
            with suppress(RuntimeError):  # the event loop is closed already, and its transports with it
                self._transport.abort()
