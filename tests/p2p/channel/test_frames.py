"""The frame parser against every way in which a stream can be cut."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.channel.frames import HEADER, MAX_PAYLOAD_BYTES, SCRATCH_BYTES, FrameParser, frame_head
from p2p.protocol.model import MAX_MESSAGE_BYTES, BadMessage

Frame = tuple[bytes, bytes | None]
"""A message, and its payload; None: the sink drops it."""


class Collector:
    """Sink that cuts its memory into `ways` pieces, or drops the payloads of messages that start with 'drop'."""

    def __init__(self, ways: int = 1) -> None:
        self.frames: list[Frame] = []
        self.ways = ways
        self.parser: FrameParser | None = None
        self._message = b""
        self._targets: Sequence[memoryview] | None = None

    def frame_begins(self, message: bytes, payload_bytes: int) -> Sequence[memoryview] | None:
        self._message, self._targets = message, None
        if message == b"stop" and self.parser is not None:
            self.parser.stop()
        if not message.startswith(b"drop"):
            memory = memoryview(bytearray(payload_bytes))
            cuts = [payload_bytes * i // self.ways for i in range(self.ways + 1)]
            self._targets = [memory[a:b] for a, b in pairwise(cuts)]
        return self._targets

    def frame_ends(self) -> None:
        self.frames.append((self._message, None if self._targets is None else b"".join(self._targets)))


def feed(parser: FrameParser, stream: bytes, sizes: Sequence[int]) -> None:
    """Fill the parser's buffers with `stream`, at most so many bytes at a time (the last size repeats)."""
    start, turn = 0, 0
    while start < len(stream):
        buffer = parser.buffer()
        assert len(buffer) > 0
        assert parser.buffer() is buffer or len(parser.buffer()) == len(buffer)
        count = min(len(buffer), len(stream) - start, sizes[min(turn, len(sizes) - 1)])
        buffer[:count] = stream[start : start + count]
        parser.received(count)
        start, turn = start + count, turn + 1


def wire(frames: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join(frame_head(message, len(payload)) + payload for message, payload in frames)


def expected(frames: Sequence[tuple[bytes, bytes]]) -> list[Frame]:
    return [(m, None if m.startswith(b"drop") else p) for m, p in frames]


MESSAGES = st.one_of(st.binary(max_size=40), st.binary(max_size=20).map(lambda tail: b"drop" + tail))
FRAMES = st.lists(st.tuples(MESSAGES, st.binary(max_size=300)), max_size=12)


@given(FRAMES, st.lists(st.integers(1, 64), min_size=1, max_size=30), st.integers(1, 4))
def test_frames_come_out_whole_however_the_stream_is_cut(
    frames: list[tuple[bytes, bytes]], sizes: list[int], ways: int
) -> None:
    sink = Collector(ways)
    feed(FrameParser(sink), wire(frames), sizes)
    assert sink.frames == expected(frames)


@given(
    st.lists(
        st.sampled_from([0, 1, 8, 100, SCRATCH_BYTES - 9, SCRATCH_BYTES - 8, SCRATCH_BYTES - 7, 50_000]), max_size=5
    ),
    st.lists(st.sampled_from([0, 1, SCRATCH_BYTES, 70_000]), min_size=5, max_size=5),
    st.sampled_from([1000, SCRATCH_BYTES - 1, SCRATCH_BYTES, 1 << 20]),
)
def test_messages_longer_than_the_scratch_memory(lengths: list[int], payloads: list[int], size: int) -> None:
    frames = [
        (bytes([65 + i]) * length, bytes([97 + i]) * payload)
        for i, (length, payload) in enumerate(zip(lengths, payloads, strict=False))
    ]
    sink = Collector(2)
    feed(FrameParser(sink), wire(frames), [size])
    assert sink.frames == expected(frames)


def test_payload_bytes_go_straight_into_the_given_memory() -> None:
    memory = bytearray(100_000)

    class Direct(Collector):
        def frame_begins(self, message: bytes, payload_bytes: int) -> Sequence[memoryview]:
            return [memoryview(memory)[:10], memoryview(memory)[10:10], memoryview(memory)[10:]]

    parser = FrameParser(Direct())
    feed(parser, frame_head(b"m", len(memory)), [1000])
    buffer = parser.buffer()
    buffer[:] = b"x" * 10
    assert memory[:10] == b"x" * 10
    parser.received(10)
    assert len(parser.buffer()) == len(memory) - 10


@given(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1))
def test_frames_beyond_the_limits_are_refused_by_their_header_alone(message: int, payload: int) -> None:
    parser = FrameParser(Collector(), max_message=1000, max_payload=2000)
    if message > 1000 or payload > 2000:
        with pytest.raises(BadMessage, match="exceeds the limits"):
            feed(parser, struct.pack("<II", message, payload), [8])
    else:
        feed(parser, struct.pack("<II", message, payload), [8])


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), min_size=1))
def test_garbage_never_takes_more_memory_than_the_limits(data: bytes, sizes: list[int]) -> None:
    sink = Collector()
    parser = FrameParser(sink, max_message=64, max_payload=64)
    try:
        feed(parser, data, sizes)
    except BadMessage:
        return
    assert all(len(message) <= 64 and len(payload or b"") <= 64 for message, payload in sink.frames)


def test_a_stopped_parser_ignores_what_still_comes() -> None:
    sink = Collector()
    sink.parser = parser = FrameParser(sink)
    feed(parser, wire([(b"a", b"1"), (b"stop", b"22"), (b"b", b"")]) + b"\xff" * 100_000, [64])
    assert sink.frames == [(b"a", b"1")]
    parser = FrameParser(sink)
    feed(parser, frame_head(b"half", 10) + b"12345", [100])
    parser.stop()
    feed(parser, b"z" * 40_000, [7000])
    assert sink.frames == [(b"a", b"1")]


def test_the_sink_and_the_limits_may_change_between_frames() -> None:
    second = Collector()

    class First(Collector):
        def frame_ends(self) -> None:
            super().frame_ends()
            parser.sink = second
            parser.max_message = 3

    first = First()
    parser = FrameParser(first)
    with pytest.raises(BadMessage):
        feed(parser, wire([(b"long", b""), (b"two", b""), (b"four", b"")]), [1000])
    assert (first.frames, second.frames) == ([(b"long", b"")], [(b"two", b"")])


def test_memory_of_another_size_than_the_payload_is_a_bug() -> None:
    class Short(Collector):
        def frame_begins(self, message: bytes, payload_bytes: int) -> Sequence[memoryview]:
            return [memoryview(bytearray(payload_bytes - 1))]

    with pytest.raises(AssertionError):
        feed(FrameParser(Short()), wire([(b"m", b"12")]), [100])


def test_frames_that_nobody_would_take_cannot_be_built() -> None:
    assert HEADER.unpack(frame_head(b"", MAX_PAYLOAD_BYTES)) == (0, MAX_PAYLOAD_BYTES)
    with pytest.raises(ValueError, match="exceeds the limits"):
        frame_head(bytes(MAX_MESSAGE_BYTES + 1))
    with pytest.raises(ValueError, match="exceeds the limits"):
        frame_head(b"", MAX_PAYLOAD_BYTES + 1)
