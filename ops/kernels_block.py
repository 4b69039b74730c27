"""The kernels of a block codec, made from the three things that differ between codecs: encode, decode and add a block.

Arrays: x_P, a_P, b_P, out_P, accumulator_P, theta_P, momentum_P: fp32 values; scales_B: one fp32 scale a block, empty
for a codec without scales; codes: bytes; *_N: one entry for each part of a mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ops.jit import (
    ADDRESSES,
    BOOL,
    BYTES_IN,
    BYTES_OUT,
    FLOAT,
    FLOATS_IN,
    FLOATS_OUT,
    INT,
    VOID,
    Bytes,
    Floats,
    Kernel,
    bytes_at,
    kernel,
)
from ops.kernels_nesterov import denormals_kept, step_block

Addresses = npt.NDArray[np.uint64]
LARGEST = np.finfo(np.float32).max
NONE = -1
"""What the quantising kernels return when all values are finite; otherwise they return the first bad block."""


@dataclass(frozen=True)
class BlockCode:
    """The three functions that make a block code, for numba to compile into kernels."""

    bits: int
    """Of a value."""
    scaled: bool
    encode: Callable[[Floats, Bytes], np.float32]
    decode: Callable[[Bytes, np.float32, Floats], None]
    add: Callable[[Bytes, np.float32, Floats], None]


@dataclass(frozen=True)
class BlockKernels:
    """The compiled functions of one codec; `compile` gets all of them ready."""

    quantise: Kernel[[Floats, Floats, Bytes], int]
    quantise_difference: Kernel[[Floats, Floats, Floats, Bytes], int]
    decode: Kernel[[Floats, Bytes, Floats], None]
    decode_add: Kernel[[Floats, Bytes, np.float32, Floats], None]
    mean: Kernel[[Addresses, Addresses, Floats, int, Floats, Bytes], None]
    nesterov: Kernel[[Floats, Floats, Floats, Bytes, np.float32, np.float32, np.float32], bool]

    def compile(self) -> None:
        for field in fields(self):
            getattr(self, field.name).compile()


def block_kernels(name: str, block: int, code: BlockCode, of_means: BlockCode) -> BlockKernels:
    """Kernels for blocks of `block` values. `of_means`: how the mean of parts in `code` is written."""
    encoders = _encoders(name, block, code)
    decoders = _decoders(name, block, code)
    return BlockKernels(**encoders, **decoders, mean=_mean(name, block, code, of_means))


def _encoders(name: str, block: int, code: BlockCode) -> dict[str, Any]:
    bits, scaled, encode_block = code.bits, code.scaled, code.encode

    @kernel(INT(FLOATS_IN, FLOATS_OUT, BYTES_OUT), f"{name}_quantise")
    def quantise(x_P: Floats, scales_B: Floats, codes: Bytes) -> int:
        for index in range((x_P.size + block - 1) // block):
            start = index * block
            stop = min(start + block, x_P.size)
            scale = encode_block(x_P[start:stop], codes[start * bits // 8 : (stop * bits + 7) // 8])
            if scale < 0:
                return index
            if scaled:
                scales_B[index] = scale
        return NONE

    @kernel(INT(FLOATS_IN, FLOATS_IN, FLOATS_OUT, BYTES_OUT), f"{name}_quantise_difference")
    def quantise_difference(a_P: Floats, b_P: Floats, scales_B: Floats, codes: Bytes) -> int:
        scratch = np.empty(block, np.float32)
        for index in range((a_P.size + block - 1) // block):
            start = index * block
            stop = min(start + block, a_P.size)
            difference_B = scratch[: stop - start]
            a_B = a_P[start:stop]
            b_B = b_P[start:stop]
            for i in range(difference_B.size):
                difference_B[i] = a_B[i] - b_B[i]
            scale = encode_block(difference_B, codes[start * bits // 8 : (stop * bits + 7) // 8])
            if scale < 0:
                return index
            if scaled:
                scales_B[index] = scale
        return NONE

    return {"quantise": quantise, "quantise_difference": quantise_difference}


def _decoders(name: str, block: int, code: BlockCode) -> dict[str, Any]:
    bits, scaled, decode_block, add_block = code.bits, code.scaled, code.decode, code.add

    @kernel(VOID(FLOATS_IN, BYTES_IN, FLOATS_OUT), f"{name}_decode")
    def decode(scales_B: Floats, codes: Bytes, out_P: Floats) -> None:
        for index in range((out_P.size + block - 1) // block):
            start = index * block
            stop = min(start + block, out_P.size)
            scale = scales_B[index] if scaled else np.float32(1)
            decode_block(codes[start * bits // 8 : (stop * bits + 7) // 8], scale, out_P[start:stop])

    @kernel(VOID(FLOATS_IN, BYTES_IN, FLOAT, FLOATS_OUT), f"{name}_decode_add")
    def decode_add(scales_B: Floats, codes: Bytes, weight: np.float32, accumulator_P: Floats) -> None:
        for index in range((accumulator_P.size + block - 1) // block):
            start = index * block
            stop = min(start + block, accumulator_P.size)
            factor = scales_B[index] * weight if scaled else weight
            add_block(codes[start * bits // 8 : (stop * bits + 7) // 8], factor, accumulator_P[start:stop])

    @kernel(BOOL(FLOATS_OUT, FLOATS_OUT, FLOATS_IN, BYTES_IN, FLOAT, FLOAT, FLOAT), f"{name}_nesterov")
    def nesterov(
        theta_P: Floats,
        momentum_P: Floats,
        scales_B: Floats,
        codes: Bytes,
        lr: np.float32,
        mu: np.float32,
        smallest_normal: np.float32,
    ) -> bool:
        if not denormals_kept(smallest_normal):
            return False
        scratch = np.empty(block, np.float32)
        for index in range((theta_P.size + block - 1) // block):
            start = index * block
            stop = min(start + block, theta_P.size)
            gradient_B = scratch[: stop - start]
            scale = scales_B[index] if scaled else np.float32(1)
            decode_block(codes[start * bits // 8 : (stop * bits + 7) // 8], scale, gradient_B)
            step_block(theta_P[start:stop], momentum_P[start:stop], gradient_B, lr, mu)
        return True

    return {"decode": decode, "decode_add": decode_add, "nesterov": nesterov}


def _mean(name: str, block: int, code: BlockCode, of_means: BlockCode) -> Any:
    bits, scaled, add_block = code.bits, code.scaled, code.add
    mean_bits, encode_block = of_means.bits, of_means.encode
    assert code.scaled == of_means.scaled

    @kernel(VOID(ADDRESSES, ADDRESSES, FLOATS_IN, INT, FLOATS_OUT, BYTES_OUT), f"{name}_mean")
    def mean(
        scales_at_N: Addresses, codes_at_N: Addresses, factor_N: Floats, count: int, scales_B: Floats, codes: Bytes
    ) -> None:
        scratch = np.empty(block, np.float32)
        for index in range((count + block - 1) // block):
            start = index * block
            stop = min(start + block, count)
            first = start * bits // 8
            last = (stop * bits + 7) // 8
            sum_B = scratch[: stop - start]
            for i in range(sum_B.size):
                sum_B[i] = 0
            for n in range(factor_N.size):
                factor = factor_N[n]
                if scaled:
                    factor *= bytes_at(scales_at_N[n] + np.uint64(4 * index), 4).view(np.float32)[0]
                add_block(bytes_at(codes_at_N[n] + np.uint64(first), last - first), factor, sum_B)
            codes_b = codes[start * mean_bits // 8 : (stop * mean_bits + 7) // 8]
            scale = encode_block(sum_B, codes_b)
            if scale < 0:
                # The factors sum to one, so only rounding can lift a sum of finite parts above the largest float.
                for i in range(sum_B.size):
                    sum_B[i] = min(max(sum_B[i], -LARGEST), LARGEST)
                scale = encode_block(sum_B, codes_b)
            if scaled:
                scales_B[index] = scale

    return mean
