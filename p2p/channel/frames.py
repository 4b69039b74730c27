"""Frames, sans I/O: where the next received bytes belong, and what they complete.

On the wire: u32 message length, u32 payload length (little endian), the message, the payload. Payload bytes go straight
into memory that the sink names when it has seen the message: they are never joined, and copied only where they arrived
in one read with the message before them.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from p2p.protocol.model import MAX_MESSAGE_BYTES, BadMessage

MAX_PAYLOAD_BYTES = 16 << 20
HEADER = struct.Struct("<II")
SCRATCH_BYTES = 16 << 10


def frame_head(message: bytes, payload_bytes: int = 0) -> bytes:
    """Everything of a frame but its payload. Raises ValueError beyond the limits of the wire."""
    if len(message) > MAX_MESSAGE_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise ValueError(f"frame of {len(message)} + {payload_bytes} bytes exceeds the limits of a frame")
    return HEADER.pack(len(message), payload_bytes) + message


class FrameSink(Protocol):
    """Takes what a FrameParser finds."""

    def frame_begins(self, message: bytes, payload_bytes: int) -> Sequence[memoryview] | None:
        """Memory for the payload, filled in order (sizes add up to `payload_bytes`); None drops it."""

    def frame_ends(self) -> None:
        """The frame that began last is complete."""


class FrameParser:
    """Cuts a byte stream into frames. Feed it by filling `buffer()` and saying how much with `received(n)`.

    `max_message` and `max_payload` may be changed, and `sink` replaced, between frames (also from within the sink).
    """

    def __init__(self, sink: FrameSink, max_message: int = MAX_MESSAGE_BYTES, max_payload: int = MAX_PAYLOAD_BYTES):
        self.sink = sink
        self.max_message = max_message
        self.max_payload = max_payload
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._filled = 0
        self._targets: deque[memoryview] = deque()
        self._drop = 0
        self._long: bytearray | None = None
        self._long_payload = 0
        self._stopped = False

    def stop(self) -> None:
        """Forget everything, release the sink's memory, ignore what still comes."""
        self._stopped = True
        self._targets.clear()
        self._long = None

    def buffer(self) -> memoryview:
        """Where the next bytes go; never empty. Asking again without `received` changes nothing."""
        if self._targets:
            return self._targets[0]
        if self._drop:
            return self._scratch[: self._drop]
        return self._scratch[self._filled :]

    def received(self, count: int) -> None:
        """`count` bytes were put into `buffer()`. Raises BadMessage, also on behalf of the sink."""
        if self._stopped:
            self._filled = 0
        elif self._targets:
            self._advance(count)
            self._complete()
        elif self._drop:
            self._drop -= count
            self._complete()
        else:
            self._filled += count
            self._parse()

    def _advance(self, count: int) -> None:
        target = self._targets[0]
        if count == len(target):
            self._targets.popleft()
        else:
            self._targets[0] = target[count:]

    def _complete(self) -> None:
        """Hand on what was being filled, if it is full now."""
        if self._targets or self._drop:
            return
        if self._long is not None:
            message, self._long = bytes(self._long), None
            self._begin(message, self._long_payload)
        else:
            self.sink.frame_ends()

    def _parse(self) -> None:
        """Take all frames that the scratch memory holds; the rest moves to its front."""
        start = 0
        while self._filled - start >= HEADER.size and not self._stopped:
            message_bytes, payload_bytes = HEADER.unpack_from(self._scratch, start)
            if message_bytes > self.max_message or payload_bytes > self.max_payload:
                raise BadMessage(f"frame of {message_bytes} + {payload_bytes} bytes exceeds the limits")
            body = start + HEADER.size
            stop = body + message_bytes
            if stop <= self._filled:
                self._begin(bytes(self._scratch[body:stop]), payload_bytes)
                start = self._fill_from_scratch(stop)
            elif HEADER.size + message_bytes > SCRATCH_BYTES:
                self._long, self._long_payload = bytearray(message_bytes), payload_bytes
                self._targets.append(memoryview(self._long))
                start = self._fill_from_scratch(body)
            else:
                break
        rest = 0 if self._stopped else self._filled - start
        if rest and start:
            self._scratch[:rest] = bytes(self._scratch[start : self._filled])
        self._filled = rest

    def _begin(self, message: bytes, payload_bytes: int) -> None:
        targets = self.sink.frame_begins(message, payload_bytes)
        if self._stopped:
            return
        if payload_bytes == 0:
            self.sink.frame_ends()
        elif targets is None:
            self._drop = payload_bytes
        else:
            self._targets.extend(view.cast("B") for view in targets if view.nbytes)
            assert sum(map(len, self._targets)) == payload_bytes, "the sink's memory has the payload's size"

    def _fill_from_scratch(self, start: int) -> int:
        """Move bytes that arrived with the message to where they belong; the new start of what is unparsed."""
        if not self._targets and not self._drop:
            return start
        while start < self._filled and (self._targets or self._drop):
            if self._targets:
                count = min(len(self._targets[0]), self._filled - start)
                self._targets[0][:count] = self._scratch[start : start + count]
                self._advance(count)
            else:
                count = min(self._drop, self._filled - start)
                self._drop -= count
            start += count
        if not self._stopped:
            self._complete()
        return start
