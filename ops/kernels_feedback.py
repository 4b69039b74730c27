"""Kernels of a block codec that also say what quantisation left over, for error feedback (ops/error_feedback.py).

They write the same codes as those of `ops.kernels_block`. Arrays are called as there; carry_P and left_P: fp32 values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ops.jit import ADDRESSES, BYTES_OUT, FLOATS_IN, FLOATS_OUT, INT, VOID, Bytes, Floats, Kernel, bytes_at, kernel
from ops.kernels_block import LARGEST, NONE, Addresses, BlockCode


@dataclass(frozen=True)
class FeedbackKernels:
    """The compiled functions of one codec; `compile` gets both ready."""

    quantise: Kernel[[Floats, Floats, Floats, Floats, Bytes], int]
    mean: Kernel[[Addresses, Addresses, Floats, Floats, Bytes, Floats], None]

    def compile(self) -> None:
        self.quantise.compile()
        self.mean.compile()


def feedback_kernels(name: str, block: int, code: BlockCode, of_means: BlockCode) -> FeedbackKernels:
    """For codecs with scales; arguments as of `ops.kernels_block.block_kernels`."""
    assert code.scaled
    assert of_means.scaled
    return FeedbackKernels(_quantise(name, block, code), _mean(name, block, code, of_means))


def _quantise(name: str, block: int, code: BlockCode) -> Any:
    bits, encode_block, decode_block = code.bits, code.encode, code.decode

    @kernel(INT(FLOATS_IN, FLOATS_IN, FLOATS_OUT, FLOATS_OUT, BYTES_OUT), f"{name}_quantise_with_feedback")
    def quantise(a_P: Floats, b_P: Floats, carry_P: Floats, scales_B: Floats, codes: Bytes) -> int:
        scratch = np.empty(block, np.float32)
        for index in range((a_P.size + block - 1) // block):
            start = index * block
            stop = min(start + block, a_P.size)
            codes_b = codes[start * bits // 8 : (stop * bits + 7) // 8]
            decoded_B = scratch[: stop - start]
            carry_B = carry_P[start:stop]
            a_B = a_P[start:stop]
            b_B = b_P[start:stop]
            for i in range(carry_B.size):
                carry_B[i] += a_B[i] - b_B[i]
            scale = encode_block(carry_B, codes_b)
            if scale < 0:
                return index
            scales_B[index] = scale
            decode_block(codes_b, scale, decoded_B)
            for i in range(carry_B.size):
                carry_B[i] -= decoded_B[i]
        return NONE

    return quantise


def _mean(name: str, block: int, code: BlockCode, of_means: BlockCode) -> Any:
    bits, add_block = code.bits, code.add
    mean_bits, encode_block, decode_block = of_means.bits, of_means.encode, of_means.decode

    @kernel(VOID(ADDRESSES, ADDRESSES, FLOATS_IN, FLOATS_OUT, BYTES_OUT, FLOATS_OUT), f"{name}_mean_with_rest")
    def mean(
        scales_at_N: Addresses,
        codes_at_N: Addresses,
        factor_N: Floats,
        scales_B: Floats,
        codes: Bytes,
        left_P: Floats,
    ) -> None:
        scratch = np.empty(block, np.float32)
        for index in range((left_P.size + block - 1) // block):
            start = index * block
            stop = min(start + block, left_P.size)
            first = start * bits // 8
            last = (stop * bits + 7) // 8
            sum_B = left_P[start:stop]
            decoded_B = scratch[: stop - start]
            for i in range(sum_B.size):
                sum_B[i] = 0
            for n in range(factor_N.size):
                factor = factor_N[n] * bytes_at(scales_at_N[n] + np.uint64(4 * index), 4).view(np.float32)[0]
                add_block(bytes_at(codes_at_N[n] + np.uint64(first), last - first), factor, sum_B)
            codes_b = codes[start * mean_bits // 8 : (stop * mean_bits + 7) // 8]
            scale = encode_block(sum_B, codes_b)
            if scale < 0:  # see ops.kernels_block
                for i in range(sum_B.size):
                    sum_B[i] = min(max(sum_B[i], -LARGEST), LARGEST)
                scale = encode_block(sum_B, codes_b)
            scales_B[index] = scale
            decode_block(codes_b, scale, decoded_B)
            for i in range(sum_B.size):
                sum_B[i] -= decoded_B[i]

    return mean
