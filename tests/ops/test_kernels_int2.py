"""What two bits make of their values: the stretched scale of least squares, against a reference in whole numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.codec import CODECS, Encoded

Floats = npt.NDArray[np.float32]
INT2 = CODECS["int2"]
LIMITS = np.finfo(np.float32)
UNIT = 1 << 20
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def coded(x_P: Floats) -> tuple[Encoded, Floats]:
    """The codes of x, and the values that they stand for."""
    src = Encoded.allocate(INT2, x_P.size)
    INT2.quantise(x_P, src)
    out_P = np.empty_like(x_P)
    INT2.decode(src, out_P)
    src.check()
    return src, out_P


def relative_error(x_P: Floats) -> float:
    return float(np.linalg.norm(coded(x_P)[1] - x_P) / np.linalg.norm(x_P))


def reference(x_B: Floats) -> tuple[float, list[int]]:
    """Scale and multiples of it for one block of ordinary magnitude, in whole numbers where the kernel uses them."""
    absmax = np.abs(x_B).max()
    units = [np.abs(x) * (np.float32(4) / absmax) * np.float32(UNIT // 4) for x in x_B]

    def best(threshold: np.float32) -> np.float32:
        weights = [3 if unit > threshold else 1 for unit in units]
        total = sum(int(unit * np.float32(q)) for unit, q in zip(units, weights, strict=True))
        return np.float32(total) / np.float32(sum(q * q for q in weights))

    step = best(best(np.float32(2 * UNIT)) * np.float32(1.25))
    threshold = step * np.float32(2)
    multiples = [(3 if unit > threshold else 1) * (-1 if x < 0 else 1) for x, unit in zip(x_B, units, strict=True)]
    squares = sum(int(unit * unit / np.float32(UNIT)) for unit in units)
    products = sum(int(unit * np.float32(abs(multiple))) for unit, multiple in zip(units, multiples, strict=True))
    least = best(threshold) / np.float32(UNIT)
    return float(min(np.float32(squares) / np.float32(products), np.float32(1.5) * least) * absmax), multiples


@settings(deadline=None)
@given(st.integers(1, 128), st.integers(0, 2**32 - 1), st.sampled_from(["normal", "laplace", "standard_t", "outlier"]))
def test_scale_and_values_are_the_reference_s(count: int, seed: int, shape: str) -> None:
    random = np.random.default_rng(seed)
    if shape == "standard_t":
        x_B = random.standard_t(2, count).astype(np.float32)
    elif shape == "outlier":
        x_B = np.where(np.arange(count) == count // 2, 1e6, random.standard_normal(count)).astype(np.float32)
    else:
        x_B = getattr(random, shape)(size=count).astype(np.float32)
    src, out_B = coded(x_B)
    scale, multiples = reference(x_B)
    assert src.scales_B[0] == scale
    assert out_B.tolist() == [float(np.float32(multiple) * src.scales_B[0]) for multiple in multiples]


@settings(deadline=None)
@given(st.lists(finite, max_size=600))
def test_the_error_of_a_block_is_never_larger_than_the_block(items: list[float]) -> None:
    x_P = np.array(items, np.float32)
    error_P = coded(x_P)[1].astype(np.float64) - x_P
    for start in range(0, x_P.size, INT2.block):
        block = slice(start, start + INT2.block)
        assert np.linalg.norm(error_P[block]) <= np.linalg.norm(x_P[block].astype(np.float64)) * (1 + 1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 127, 128, 129, 600])
def test_constant_blocks_are_nearly_exact(count: int) -> None:
    x_P = np.full(count, -0.37, np.float32)
    np.testing.assert_allclose(coded(x_P)[1], x_P, rtol=1e-5)


def test_relative_errors_are_not_far_from_the_best_that_four_levels_can_do() -> None:
    """Lloyd-Max quantisers with four levels, which shrink what they code: 0.343 on Gaussian data, 0.420 on Laplace."""
    random = np.random.default_rng(0)
    assert relative_error(random.standard_normal(1 << 18).astype(np.float32)) < 0.37
    assert relative_error(random.laplace(size=1 << 18).astype(np.float32)) < 0.5
    assert relative_error(random.standard_t(2, 1 << 18).astype(np.float32)) < 0.85


@pytest.mark.parametrize("shape", ["standard_normal", "laplace"])
def test_what_is_coded_is_neither_shrunk_nor_stretched(shape: str) -> None:
    """Least squares would leave 0.88 and 0.81: error feedback would bring the rest, but a round late."""
    x_P = getattr(np.random.default_rng(0), shape)(size=1 << 16).astype(np.float32)
    assert np.dot(coded(x_P)[1], x_P) / np.dot(x_P, x_P) == pytest.approx(1, abs=1e-3)


def test_tiny_blocks_are_zeros_and_no_scale_is_denormal() -> None:
    tiny_B = np.zeros(INT2.block, np.float32)
    tiny_B[7] = np.float32(2.0**-119)
    src, out_B = coded(tiny_B)
    assert src.scales_B[0] >= LIMITS.tiny
    assert out_B[7] > 0
    src, out_B = coded(np.nextafter(tiny_B, np.float32(0)))
    assert src.scales_B[0] == 0
    assert out_B.tobytes() == bytes(out_B.nbytes)


@settings(deadline=None)
@given(st.lists(st.floats(2.0**123, float(LIMITS.max), width=32), min_size=1, max_size=9))
def test_the_largest_floats_keep_their_order_of_magnitude(items: list[float]) -> None:
    x_P = np.array(items, np.float32)
    out_P = coded(x_P)[1]
    assert np.isfinite(out_P).all()
    assert np.abs(out_P).max() >= x_P.max() / 4
