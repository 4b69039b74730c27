"""Compiled kernels against the same functions run by Python, bit by bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ops.codec import Codec, Encoded
from ops.jit import bytes_at
from ops.kernels_block import NONE

COUNTS = [0, 1, 2, 127, 128, 130, 1024, 1031]


def values(count: int, seed: int) -> npt.NDArray[np.float32]:
    random = np.random.default_rng(seed)
    x_P = random.standard_normal(count).astype(np.float32)
    x_P[128:256] = 0
    x_P[: count // 3] *= np.float32(1e-37)
    return x_P


def encoded(codec: Codec, x_P: npt.NDArray[np.float32]) -> Encoded:
    out = Encoded.allocate(codec, x_P.size)
    codec.quantise(x_P, out)
    return out


def assert_same(a: Encoded, b: Encoded) -> None:
    assert a.scales_B.tobytes() == b.scales_B.tobytes()
    assert a.codes.tobytes() == b.codes.tobytes()


@pytest.mark.parametrize("count", COUNTS)
def test_quantise(codec: Codec, count: int) -> None:
    x_P, y_P = values(count, 1), values(count, 2)
    out = Encoded.allocate(codec, count)
    assert codec.kernels.quantise.py_func(x_P, out.scales_B, out.codes) == NONE
    assert_same(out, encoded(codec, x_P))
    assert codec.kernels.quantise_difference.py_func(x_P, y_P, out.scales_B, out.codes) == NONE
    assert_same(out, encoded(codec, x_P - y_P))


def test_the_first_bad_block_is_named(codec: Codec) -> None:
    x_P = np.zeros(5 * codec.block, np.float32)
    x_P[[3 * codec.block + 1, 4 * codec.block]] = np.inf
    out = Encoded.allocate(codec, x_P.size)
    for run in (codec.kernels.quantise, codec.kernels.quantise.py_func):
        assert run(x_P, out.scales_B, out.codes) == 3
    for run in (codec.kernels.quantise_difference, codec.kernels.quantise_difference.py_func):
        assert run(np.zeros_like(x_P), x_P, out.scales_B, out.codes) == 3


@pytest.mark.parametrize("count", COUNTS)
def test_decode(codec: Codec, count: int) -> None:
    src = encoded(codec, values(count, 3))
    out_P, python_P = np.ones(count, np.float32), np.ones(count, np.float32)
    codec.decode(src, out_P)
    codec.kernels.decode.py_func(src.scales_B, src.codes, python_P)
    assert out_P.tobytes() == python_P.tobytes()
    codec.decode_add(src, 0.7, out_P)
    codec.kernels.decode_add.py_func(src.scales_B, src.codes, np.float32(0.7), python_P)
    assert out_P.tobytes() == python_P.tobytes()


@pytest.mark.parametrize("count", COUNTS)
def test_mean(codec: Codec, count: int) -> None:
    parts = [encoded(codec, values(count, n)) for n in range(3)]
    out, python = (Encoded.allocate(codec.of_means, count) for _ in range(2))
    codec.mean(parts, [1, 2, 5], out)
    run_mean(codec, parts, [1 / 8, 2 / 8, 5 / 8], python)
    assert_same(out, python)


def test_mean_of_the_largest_floats(codec: Codec) -> None:
    largest_P = np.full(3, np.finfo(np.float32).max, np.float32)
    parts = [encoded(codec, largest_P) for _ in range(10)]
    out, python = (Encoded.allocate(codec.of_means, 3) for _ in range(2))
    # fp32(1 / 10) is above one tenth, so the sum overflows and is clamped.
    codec.mean(parts, [1] * 10, out)
    with np.errstate(over="ignore"):
        run_mean(codec, parts, [1 / 10] * 10, python)
    assert_same(out, python)


def run_mean(codec: Codec, parts: list[Encoded], factors: list[float], out: Encoded) -> None:
    codec.kernels.mean.py_func(
        np.array([part.scales_B.ctypes.data for part in parts], np.uint64),
        np.array([part.codes.ctypes.data for part in parts], np.uint64),
        np.array(factors, np.float32),
        out.count,
        out.scales_B,
        out.codes,
    )


@pytest.mark.parametrize("count", COUNTS)
def test_nesterov(codec: Codec, count: int) -> None:
    src = encoded(codec, values(count, 4))
    constants = (np.float32(0.7), np.float32(0.9), np.finfo(np.float32).tiny)
    states = [(values(count, 5), values(count, 6)) for _ in range(2)]
    for (theta_P, momentum_P), run in zip(
        states, (codec.kernels.nesterov, codec.kernels.nesterov.py_func), strict=True
    ):
        assert run(theta_P, momentum_P, src.scales_B, src.codes, *constants)
        assert not run(theta_P, momentum_P, src.scales_B, src.codes, np.float32(1), np.float32(1), np.float32(0))
    assert states[0][0].tobytes() == states[1][0].tobytes()
    assert states[0][1].tobytes() == states[1][1].tobytes()


def test_bytes_at_reads_memory_in_place() -> None:
    memory = np.arange(10, dtype=np.uint8)
    assert bytes_at(memory.ctypes.data + 2, 3).tolist() == [2, 3, 4]
    assert np.shares_memory(bytes_at(memory.ctypes.data, 10), memory)
