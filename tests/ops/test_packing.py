"""Packed codes: fewer bytes, the same codes, and nothing else from a stranger."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zstandard import ZstdCompressor

from ops.codec import CODECS, BadCodes, Codec, Encoded
from ops.jit import Bytes
from ops.packing import WINDOW_BYTES, cost, pack, unpack

COUNT = 300_000
PART = {"int8": 0.93, "int4": 0.87, "int2": 0.97}
"""Of the bytes of codes of normal values, at most."""


def codes_of(codec: Codec, count: int = COUNT) -> Bytes:
    encoded = Encoded.allocate(codec, count)
    codec.quantise(np.random.default_rng(1).standard_normal(count).astype(np.float32), encoded)
    return encoded.codes


def packed(codes: Bytes) -> bytes:
    space = np.empty_like(codes)
    return space[: pack(codes, space)].tobytes()


def test_codes_take_fewer_bytes_and_come_out_the_same(scaled_codec: Codec) -> None:
    codes = codes_of(scaled_codec)
    fewer = packed(codes)
    assert 0 < len(fewer) < PART[scaled_codec.name] * codes.nbytes
    out = np.full_like(codes, 7)
    unpack(memoryview(fewer), out)
    assert (out == codes).all()


@given(data=st.binary(max_size=3000), repeat=st.integers(1, 40))
def test_any_bytes_come_out_the_same_or_are_not_packed(data: bytes, repeat: int) -> None:
    codes = np.frombuffer(data * repeat, np.uint8)
    fewer = packed(codes)
    assert len(fewer) < max(1, codes.nbytes)
    if fewer:
        out = np.empty_like(codes)
        unpack(memoryview(fewer), out)
        assert (out == codes).all()


def test_what_hardly_gets_smaller_is_not_packed() -> None:
    assert packed(np.random.default_rng(2).integers(0, 256, COUNT, dtype=np.uint8)) == b""
    assert packed(np.empty(0, np.uint8)) == b""


@pytest.mark.parametrize("wrong", ["empty", "cut", "longer", "twice", "fewer codes", "more codes", "garbage", "window"])
def test_anything_but_these_codes_is_refused(wrong: str) -> None:
    codes = codes_of(CODECS["int8"])
    good = packed(codes)
    bad = {
        "empty": b"",
        "cut": good[:-1],
        "longer": good + b"x",
        "twice": good + good,
        "fewer codes": packed(codes[:-1]),
        "more codes": packed(np.append(codes, codes[:1])),
        "garbage": codes.tobytes()[:1000],
        "window": ZstdCompressor(level=19).compress(bytes(16 * WINDOW_BYTES)),
    }[wrong]
    with pytest.raises(BadCodes, match="packed codes"):
        unpack(memoryview(bad), np.empty_like(codes))


def test_after_a_refusal_the_next_codes_are_taken() -> None:
    codes = codes_of(CODECS["int4"])
    good, out = packed(codes), np.empty_like(codes)
    for bad in (good[:1000], good[:-1], b"\0" * 50):
        with pytest.raises(BadCodes):
            unpack(memoryview(bad), out)
        unpack(memoryview(good), out)
        assert (out == codes).all()


def test_the_cost_of_packing_is_measured_once() -> None:
    assert all(1e-11 < seconds < 1e-6 for seconds in cost())
    assert cost() is cost()
