"""The codecs against a plain numpy reference, on ordinary values and on every awkward one; any cut equals the whole.

What int2 makes of its values is in test_kernels_int2.py.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ops.codec import CODECS, Codec, Encoded, NonFinite, UnknownCodec, get_codec

Floats = npt.NDArray[np.float32]
LIMITS = np.finfo(np.float32)
codecs = st.sampled_from(list(CODECS.values()))
absmax_codecs = st.sampled_from([CODECS["int8"], CODECS["int4"]])
even_codecs = st.sampled_from([codec for codec in CODECS.values() if codec.name != "int2"])
counts = st.one_of(st.integers(0, 300), st.sampled_from([1023, 1024, 1025, 2048, 3001]))
seeds = st.integers(0, 2**32 - 1)


def values(count: int, seed: int) -> Floats:
    """Finite floats of all magnitudes, denormals and zeros among them, with runs of like magnitude as in a model."""
    random = np.random.default_rng(seed)
    exponents = np.repeat(random.integers(-140, 111, count // 50 + 1), 50)[:count] + random.integers(-6, 7, count)
    x_P = np.ldexp(random.standard_normal(count), exponents).astype(np.float32)
    x_P[random.random(count) < 0.05] = 0
    return x_P


def encoded(codec: Codec, x_P: Floats) -> Encoded:
    out = Encoded.allocate(codec, x_P.size)
    codec.quantise(x_P, out)
    return out


def decoded(src: Encoded) -> Floats:
    out_P = np.full(src.count, np.nan, np.float32)
    src.codec.decode(src, out_P)
    return out_P


def same_bytes(a: Encoded, b: Encoded) -> bool:
    return a.scales_B.tobytes() == b.scales_B.tobytes() and a.codes.tobytes() == b.codes.tobytes()


def reference(codec: Codec, x_P: Floats) -> tuple[Floats, Floats]:
    """Scales, and values as decoded, by whole-array numpy on padded blocks."""
    blocks = -(-x_P.size // codec.block)
    padded = np.zeros((blocks, codec.block), np.float32)
    padded.reshape(-1)[: x_P.size] = x_P
    absmax_B = np.abs(padded).max(axis=1, initial=0)
    levels = np.float32(codec.levels)
    absmax_B[absmax_B < levels * LIMITS.tiny] = 0
    scales_B = absmax_B / levels
    inverse_B = np.divide(levels, absmax_B, out=np.zeros_like(absmax_B), where=absmax_B > 0)
    decoded_P = np.rint(padded * inverse_B[:, None]) * scales_B[:, None]
    return scales_B, decoded_P.reshape(-1)[: x_P.size]


@settings(deadline=None)
@given(absmax_codecs, counts, seeds)
def test_scales_and_values_are_the_reference_s(codec: Codec, count: int, seed: int) -> None:
    x_P = values(count, seed)
    src = encoded(codec, x_P)
    scales_B, decoded_P = reference(codec, x_P)
    np.testing.assert_array_equal(src.scales_B, scales_B)
    np.testing.assert_array_equal(decoded(src), decoded_P)
    src.check()


@settings(deadline=None)
@given(even_codecs, st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=260))
@example(CODECS["int8"], [-0.0] * 3)
@example(CODECS["int4"], [float(LIMITS.max), -float(LIMITS.max), float(LIMITS.smallest_subnormal)])
def test_no_value_is_off_by_more_than_half_a_step(codec: Codec, items: list[float]) -> None:
    x_P = np.array(items, np.float32)
    error_P = np.abs(decoded(encoded(codec, x_P)).astype(np.float64) - x_P)
    for start in range(0, x_P.size, codec.block):
        block = slice(start, start + codec.block)
        absmax = float(np.abs(x_P[block]).max())
        bound = absmax / codec.levels / 2 * (1 + 1e-5) if codec.scaled else 0.0
        if codec.scaled and absmax < codec.levels * float(LIMITS.tiny):
            bound = absmax  # such a block is coded as zeros
        assert error_P[block].max() <= bound


def test_fp32_is_exact() -> None:
    x_P = values(5000, 1)
    assert decoded(encoded(CODECS["fp32"], x_P)).tobytes() == x_P.tobytes()


@settings(deadline=None)
@given(codecs, counts, seeds)
def test_the_difference_is_never_stored_but_coded_alike(codec: Codec, count: int, seed: int) -> None:
    a_P, b_P = values(count, seed), values(count, seed + 1)
    out = Encoded.allocate(codec, count)
    codec.quantise_difference(a_P, b_P, out)
    assert same_bytes(out, encoded(codec, a_P - b_P))


def cuts(codec: Codec, count: int, seed: int) -> list[tuple[int, int]]:
    """A random way to cut [0, count) at block bounds, empty pieces included."""
    random = np.random.default_rng(seed)
    inner = random.integers(0, count // codec.block + 1, 3) * codec.block
    return list(pairwise([0, *sorted(int(cut) for cut in inner), count]))


@settings(deadline=None)
@given(codecs, st.sampled_from([0, 1, 127, 128, 1000, 1024, 5000]), seeds)
def test_any_cut_gives_the_bytes_and_values_of_the_whole(codec: Codec, count: int, seed: int) -> None:
    parts_P = [values(count, seed + n) for n in range(3)]
    wholes = [encoded(codec, x_P) for x_P in parts_P]
    weights = [3.0, 1.0, 2.5]
    mean, mean_cut = (Encoded.allocate(codec.of_means, count) for _ in range(2))
    coded_cut = Encoded.allocate(codec, count)
    codec.mean(wholes, weights, mean)
    sum_P, sum_cut_P = np.ones(count, np.float32), np.ones(count, np.float32)
    codec.decode_add(wholes[1], 0.3, sum_P)
    out_cut_P = np.empty(count, np.float32)
    for start, stop in cuts(codec, count, seed):
        codec.quantise_difference(parts_P[0][start:stop], parts_P[1][start:stop], coded_cut.slice(start, stop))
        codec.mean([whole.slice(start, stop) for whole in wholes], weights, mean_cut.slice(start, stop))
        codec.decode_add(wholes[1].slice(start, stop), 0.3, sum_cut_P[start:stop])
        codec.decode(wholes[2].slice(start, stop), out_cut_P[start:stop])
    assert same_bytes(coded_cut, encoded(codec, parts_P[0] - parts_P[1]))
    assert same_bytes(mean_cut, mean)
    assert sum_cut_P.tobytes() == sum_P.tobytes()
    assert out_cut_P.tobytes() == decoded(wholes[2]).tobytes()


@settings(deadline=None)
@given(even_codecs, st.integers(1, 3001), seeds, st.integers(1, 9), st.data())
def test_the_mean_is_the_weighted_mean_quantised_once(
    codec: Codec, count: int, seed: int, members: int, data: st.DataObject
) -> None:
    weights = data.draw(st.lists(st.floats(1e-3, 1e7), min_size=members, max_size=members))
    random = np.random.default_rng(seed)
    parts = [encoded(codec, random.standard_normal(count).astype(np.float32)) for _ in range(members)]
    out = Encoded.allocate(codec, count)
    codec.mean(parts, weights, out)
    exact_P = sum(w * decoded(part).astype(np.float64) for w, part in zip(weights, parts, strict=True)) / sum(weights)
    step = np.abs(exact_P).max() / codec.levels / 2 if codec.scaled else 0
    assert np.abs(decoded(out) - exact_P).max() <= step * 1.001 + 1e-5


@settings(deadline=None)
@given(codecs, st.integers(1, 2100), seeds)
def test_the_mean_adds_factor_times_part_in_the_order_given(codec: Codec, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = [encoded(codec, random.standard_normal(count).astype(np.float32)) for _ in range(3)]
    weights = [1.0, 5.0, 2.0]
    sum_P = np.zeros(count, np.float32)
    for weight, part in zip(weights, parts, strict=True):
        codec.decode_add(part, weight / 8.0, sum_P)
    out = Encoded.allocate(codec.of_means, count)
    codec.mean(parts, weights, out)
    assert same_bytes(out, encoded(codec.of_means, sum_P))
    if codec.of_means is codec:
        codec.mean(parts, weights, parts[0])
        assert same_bytes(out, parts[0]), "the output may be one of the parts"


def test_decode_add_adds_code_times_weighted_scale(scaled_codec: Codec) -> None:
    x_P = values(700, 3)
    src = encoded(scaled_codec, x_P)
    accumulator_P = np.full(700, 0.5, np.float32)
    scaled_codec.decode_add(src, 0.37, accumulator_P)
    factor_P = np.repeat(src.scales_B * np.float32(0.37), scaled_codec.block)[:700]
    scale_P = np.repeat(src.scales_B, scaled_codec.block)[:700]
    code_P = np.rint(np.divide(decoded(src), scale_P, out=np.zeros_like(x_P), where=scale_P > 0))
    np.testing.assert_array_equal(accumulator_P, np.float32(0.5) + code_P * factor_P)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 1, 127, 128, 1023, 1024, 1500, 2999])
def test_nan_and_infinity_are_found_anywhere(codec: Codec, bad: float, position: int) -> None:
    x_P, zeros_P = values(3000, 0), np.zeros(3000, np.float32)
    x_P[position] = bad
    out = Encoded.allocate(codec, 3000)
    block = position // codec.block * codec.block
    with pytest.raises(NonFinite, match=f"values {block} to {block + codec.block - 1}"):
        codec.quantise(x_P, out)
    with pytest.raises(NonFinite):
        codec.quantise_difference(zeros_P, x_P, out)


def test_a_difference_that_overflows_is_not_finite(codec: Codec) -> None:
    big_P = np.full(3, LIMITS.max, np.float32)
    with pytest.raises(NonFinite):
        codec.quantise_difference(big_P, -big_P, Encoded.allocate(codec, 3))


def test_zeros_and_denormals_are_coded_as_zeros(scaled_codec: Codec) -> None:
    count = 3 * scaled_codec.block + 1
    x_P = np.zeros(count, np.float32)
    x_P[1] = -LIMITS.smallest_subnormal
    x_P[scaled_codec.block] = LIMITS.tiny * (scaled_codec.levels - 1)
    x_P[-1] = -0.0
    src = encoded(scaled_codec, x_P)
    assert not src.scales_B.any()
    assert decoded(src).tobytes() == bytes(4 * count), "positive zeros only"
    src.check()


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_the_smallest_scale_is_normal(name: str) -> None:
    x_P = np.array([LIMITS.tiny * CODECS[name].levels], np.float32)
    src = encoded(CODECS[name], x_P)
    assert src.scales_B[0] == LIMITS.tiny
    assert decoded(src)[0] == x_P[0]


def test_nothing_overflows_up_to_the_largest_float(scaled_codec: Codec) -> None:
    last = int(LIMITS.max.view(np.uint32))
    for absmax in np.arange(last - 3000, last + 1, dtype=np.uint32).view(np.float32):
        src = encoded(scaled_codec, np.array([absmax, -absmax], np.float32))
        src.check()
        assert np.isfinite(decoded(src)).all()


def test_a_mean_of_the_largest_floats_does_not_overflow(codec: Codec) -> None:
    x_P = np.full(1500, LIMITS.max, np.float32)
    parts = [encoded(codec, x_P) for _ in range(10)]
    for weights in ([1.0] * 10, [1e12, 3, 5, 7, 11, 13, 17, 19, 23, 29]):
        out = Encoded.allocate(codec.of_means, 1500)
        codec.mean(parts, weights, out)
        out.check()
        np.testing.assert_allclose(decoded(out), decoded(parts[0]), rtol=1e-6)


def test_relative_error_on_gaussian_data_is_what_the_design_says() -> None:
    x_P = np.random.default_rng(0).standard_normal(1 << 18).astype(np.float32)
    for name, limit in (("int8", 0.009), ("int4", 0.13)):
        error_P = decoded(encoded(CODECS[name], x_P)) - x_P
        assert np.linalg.norm(error_P) / np.linalg.norm(x_P) < limit


def unaligned(x_P: Floats) -> Floats:
    copy = np.empty(x_P.nbytes + 1, np.uint8)
    view_P = copy[1:].view(np.float32)
    view_P[:] = x_P
    assert not view_P.flags.aligned
    return view_P


def test_vectors_may_be_unaligned_and_read_only(codec: Codec) -> None:
    x_P = values(2500, 8)
    odd_P = unaligned(x_P)
    odd_P.flags.writeable = False
    src = encoded(codec, odd_P)
    assert same_bytes(src, encoded(codec, x_P))
    out_P, sum_P = unaligned(np.zeros_like(x_P)), unaligned(np.zeros_like(x_P))
    codec.decode(src, out_P)
    codec.decode_add(src, 1.0, sum_P)
    assert out_P.tobytes() == decoded(src).tobytes()
    np.testing.assert_array_equal(sum_P, out_P)


def test_threads_may_share_inputs(codec: Codec) -> None:
    x_P = values(200_000, 5)
    expected = encoded(codec, x_P)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: encoded(codec, x_P), range(8)):
            assert same_bytes(result, expected)


def test_wrong_vectors_are_refused(codec: Codec) -> None:
    out = Encoded.allocate(codec, 4)
    for wrong in (np.zeros(5, np.float32), np.zeros(4), np.zeros((2, 2), np.float32), np.zeros(8, np.float32)[::2]):
        with pytest.raises(AssertionError):
            codec.quantise(wrong, out)
    with pytest.raises(AssertionError, match="bytes given to"):
        CODECS["fp32" if codec.scaled else "int8"].decode(out, np.zeros(4, np.float32))


@pytest.mark.parametrize(("members", "weights"), [(0, []), (2, [1.0]), (2, [1.0, 0.0]), (2, [1.0, -1.0])])
def test_a_mean_needs_a_positive_weight_for_each_part(codec: Codec, members: int, weights: list[float]) -> None:
    out = Encoded.allocate(codec.of_means, 4)
    with pytest.raises(AssertionError):
        codec.mean([encoded(codec, np.ones(4, np.float32))] * members, weights, out)


def test_bits_on_the_wire() -> None:
    assert {name: codec.bits_per_value for name, codec in CODECS.items()} == {
        "fp32": 32,
        "int8": 8.03125,
        "int4": 4.25,
        "int2": 2.25,
    }
    assert {codec.name: codec.of_means.name for codec in CODECS.values() if codec.of_means is not codec} == {
        "int2": "int4"
    }
    assert (CODECS["int4"].reduce_bits_per_value, CODECS["int2"].reduce_bits_per_value) == (4.25, 3.25)


def test_an_unknown_codec_is_refused_with_the_known_ones() -> None:
    assert get_codec("int8") is CODECS["int8"]
    with pytest.raises(UnknownCodec, match="unknown codec 'int7': choose one of fp32, int8, int4, int2"):
        get_codec("int7")
