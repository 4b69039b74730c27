"""Encoded: sizes, slices, wire buffers, and the check of what a stranger sent."""

from __future__ import annotations

import numpy as np
import pytest

from ops.codec import CODECS, BadCodes, Codec, Encoded
from ops.kernels_finite import largest_scale

LIMITS = np.finfo(np.float32)


def filled(codec: Codec, count: int) -> Encoded:
    out = Encoded.allocate(codec, count)
    codec.quantise(np.random.default_rng(count).standard_normal(count).astype(np.float32), out)
    return out


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 1024, 5001])
def test_bytes_on_the_wire_are_the_formula_s(codec: Codec, count: int) -> None:
    src = filled(codec, count)
    scales = -(-count // codec.block) if codec.scaled else 0
    assert src.nbytes == 4 * scales + -(-count * codec.bits // 8)
    assert src.nbytes == sum(buffer.nbytes for buffer in src.buffers())
    assert all(buffer.nbytes > 0 and buffer.format == "B" for buffer in src.buffers())


def test_bytes_received_into_the_buffers_are_the_vector_sent(codec: Codec) -> None:
    sent = filled(codec, 3000)
    received = Encoded.allocate(codec, 3000)
    for target, source in zip(received.buffers(), sent.buffers(), strict=True):
        target[:] = source
    received.check()
    assert received.scales_B.tobytes() == sent.scales_B.tobytes()
    assert received.codes.tobytes() == sent.codes.tobytes()


def test_slices_share_memory(codec: Codec) -> None:
    whole = filled(codec, 5 * 1024 + 3)
    piece = whole.slice(2048, 5 * 1024 + 3)
    assert piece.count == 3 * 1024 + 3
    assert np.shares_memory(piece.codes, whole.codes)
    assert whole.slice(5 * 1024 + 3, 5 * 1024 + 3).buffers() == ()
    tail = piece.slice(3072, piece.count)
    assert (tail.count, tail.codes[-1]) == (3, whole.codes[-1])


@pytest.mark.parametrize(("start", "stop"), [(1, 1024), (0, 1000), (1024, 0), (0, 4096), (-1024, 0)])
def test_slices_are_cut_at_blocks_within_the_vector(start: int, stop: int) -> None:
    with pytest.raises(AssertionError):
        filled(CODECS["int8"], 3000).slice(start, stop)


def test_arrays_of_another_size_or_type_are_refused(scaled_codec: Codec) -> None:
    good = filled(scaled_codec, 2048)
    for scales_B, codes in (
        (good.scales_B[:-1], good.codes),
        (good.scales_B.astype(np.float64), good.codes),
        (good.scales_B, good.codes[:-1]),
        (good.scales_B, good.codes.view(np.int8)),
        (np.repeat(good.scales_B, 2)[::2], good.codes),
        (good.scales_B, np.repeat(good.codes, 2)[::2]),
    ):
        with pytest.raises(AssertionError):
            Encoded(scaled_codec, 2048, scales_B, codes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "scale", [-1.0, -0.0, np.nan, np.inf, -np.inf, LIMITS.smallest_subnormal, LIMITS.tiny * 0.99, LIMITS.max]
)
def test_a_scale_that_no_finite_values_give_is_bad(scaled_codec: Codec, scale: float) -> None:
    src = filled(scaled_codec, 3000)
    src.scales_B[1] = scale
    with pytest.raises(BadCodes, match="block 1: scale"):
        src.check()


def test_zero_and_the_limits_of_a_scale_are_good(scaled_codec: Codec) -> None:
    src = filled(scaled_codec, 3000)
    for scale in (0.0, LIMITS.tiny, largest_scale(scaled_codec.levels)):
        src.scales_B[0] = scale
        src.check()


@pytest.mark.parametrize(("name", "code"), [("int8", 0x80), ("int4", 0x08), ("int4", 0x80)])
def test_a_code_that_would_overflow_is_bad(name: str, code: int) -> None:
    src = filled(CODECS[name], 3000)
    src.codes[5] = code
    src.check()
    src.scales_B[0] = largest_scale(src.codec.levels)
    with pytest.raises(BadCodes, match="most negative code"):
        src.check()


def test_any_bytes_that_pass_decode_to_finite_values(scaled_codec: Codec) -> None:
    random = np.random.default_rng(0)
    out_P = np.empty(300, np.float32)
    passed = 0
    for _ in range(2000):
        src = Encoded.allocate(scaled_codec, 300)
        for buffer in src.buffers():
            buffer[:] = random.bytes(buffer.nbytes)
        try:
            src.check()
        except BadCodes:
            continue
        passed += 1
        scaled_codec.decode(src, out_P)
        assert np.isfinite(out_P).all()
    assert passed > 50


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_fp32_values_must_be_finite(bad: float) -> None:
    src = filled(CODECS["fp32"], 3000)
    src.check()
    src.codes.view(np.float32)[2999] = bad
    with pytest.raises(BadCodes, match="NaN or infinity"):
        src.check()
