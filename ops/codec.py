"""Block codecs: how pseudo-gradients and their mean are written for the wire.

A codec cuts a vector into blocks and writes each as small integers and one fp32 scale: absmax / 127 or absmax / 7 with
round-to-nearest, or at 2 bits the scale of least squares. Everybody decodes the same bytes with the same two fp32
operations, so everybody gets the same bits.

The mean of parts is written by the same codec, or, if that one is too coarse for it, by a finer one: see `of_means`.

All methods release the GIL, may be called from several threads at once, and take C-contiguous fp32 vectors, aligned or
not. Shape suffixes: _P any number of values, _B one entry a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ops import kernels_float32, kernels_int2, kernels_int4, kernels_int8
from ops.encoded import BadCodes, Encoded, copy_encoded
from ops.jit import Bytes, Floats
from ops.kernels_block import NONE, Addresses, BlockCode, BlockKernels, block_kernels
from ops.kernels_feedback import FeedbackKernels, feedback_kernels
from ops.kernels_finite import largest_scale

__all__ = ["CODECS", "BadCodes", "Codec", "Encoded", "NonFinite", "UnknownCodec", "get_codec"]


class NonFinite(ValueError):
    """Values to quantise hold a NaN or an infinity."""


class UnknownCodec(ValueError):
    """No codec of that name; the text lists those there are."""


@dataclass(frozen=True, eq=False)
class Codec:
    """One way to write a vector; the instances are in `CODECS`."""

    name: str
    block: int
    """Values that share a scale."""
    levels: int
    """Values in a block go from -levels to +levels times its scale; 0 for a codec without scales."""
    code: BlockCode
    kernels: BlockKernels
    finer: Codec | None = None
    """Of the same block: writes the means, for a codec so coarse that it is used with error feedback."""
    feedback: FeedbackKernels | None = None
    """There if `finer` is (ops/error_feedback.py)."""

    @property
    def of_means(self) -> Codec:
        """The codec that means of parts of this one are written by."""
        return self.finer or self

    @property
    def bits(self) -> int:
        """Bits of one code."""
        return self.code.bits

    @property
    def scaled(self) -> bool:
        return self.code.scaled

    @property
    def bits_per_value(self) -> float:
        """Bits on the wire a value, scales included."""
        return self.bits + (32 / self.block if self.scaled else 0)

    @property
    def reduce_bits_per_value(self) -> float:
        """The same in a reduce, in which as many values travel as parts and as means."""
        return (self.bits_per_value + self.of_means.bits_per_value) / 2

    @cached_property
    def scale_bits(self) -> tuple[np.uint32, np.uint32]:
        """Bits of the smallest scale but zero and of the largest that `quantise` writes."""
        return np.finfo(np.float32).tiny.view(np.uint32), largest_scale(self.levels).view(np.uint32)

    @cached_property
    def crowded_scale_bits(self) -> np.uint32:
        """Bits of the largest scale with which the unused code, -levels - 1, stays finite."""
        return largest_scale(self.levels + 1).view(np.uint32)

    def has_unused_code(self, codes: Bytes) -> bool:
        """Whether the code -levels - 1 occurs, which `quantise` never writes; at 2 bits all codes are in use."""
        if self.bits == 8:
            return bool((codes == 0x80).any())
        if self.bits == 2:
            return False
        return bool(((codes & 0x0F) == 0).any() or ((codes & 0xF0) == 0).any())

    def scale_count(self, count: int) -> int:
        """Number of scales of `count` values."""
        return -(-count // self.block) if self.scaled else 0

    def code_bytes(self, count: int) -> int:
        """Bytes of the codes of `count` values."""
        return (count * self.bits + 7) // 8

    def quantise(self, x_P: Floats, out: Encoded) -> None:
        """Write x. Raises NonFinite; what is in `out` is then undefined."""
        self._require(out, x_P)
        self._finite(self.kernels.quantise(x_P, out.scales_B, out.codes))

    def quantise_difference(self, a_P: Floats, b_P: Floats, out: Encoded) -> None:
        """Write a - b without storing it: the pseudo-gradient of theta_global and theta_local. Raises NonFinite."""
        self._require(out, a_P, b_P)
        self._finite(self.kernels.quantise_difference(a_P, b_P, out.scales_B, out.codes))

    def quantise_with_feedback(self, a_P: Floats, b_P: Floats, carry_P: Floats, out: Encoded) -> None:
        """Write a - b + carry, and leave in carry what could not be written. Raises NonFinite; carry is then spoilt."""
        assert self.feedback is not None, self.name
        self._require(out, a_P, b_P, carry_P)
        self._finite(self.feedback.quantise(a_P, b_P, carry_P, out.scales_B, out.codes))

    def decode(self, src: Encoded, out_P: Floats) -> None:
        """out = the values of src."""
        self._require(src, out_P)
        self.kernels.decode(src.scales_B, src.codes, out_P)

    def decode_add(self, src: Encoded, weight: float, accumulator_P: Floats) -> None:
        """accumulator += code * (scale * weight), in fp32."""
        self._require(src, accumulator_P)
        self.kernels.decode_add(src.scales_B, src.codes, np.float32(weight), accumulator_P)

    def mean(self, parts: Sequence[Encoded], weights: Sequence[float], out: Encoded) -> None:
        """Write the weighted mean of the parts in the codec `of_means`, added in the order given and quantised once.

        Weights are positive and are divided by their sum first, so that no sum of finite parts overflows: each part
        gives code * (scale * fp32(weight / sum)). Works on one block at a time. If means have no codec of their own,
        `out` may be one of the parts, and the mean of one part is its bytes.
        """
        if len(parts) == 1 and self.finer is None:  # quantising it again might make something else of it
            copy_encoded(parts[0], out)
            return
        self.kernels.mean(*self._of_mean(parts, weights, out), out.count, out.scales_B, out.codes)

    def mean_with_rest(self, parts: Sequence[Encoded], weights: Sequence[float], out: Encoded, left_P: Floats) -> None:
        """`mean`, and left = the mean before it was quantised, less what `out` decodes to."""
        assert self.feedback is not None, self.name
        self.of_means._require(out, left_P)
        self.feedback.mean(*self._of_mean(parts, weights, out), out.scales_B, out.codes, left_P)

    def _of_mean(
        self, parts: Sequence[Encoded], weights: Sequence[float], out: Encoded
    ) -> tuple[Addresses, Addresses, Floats]:
        """Addresses of scales and codes, valid as long as `parts` live, and what each part is multiplied by."""
        assert parts, "a mean of no parts"
        assert len(parts) == len(weights), (len(parts), len(weights))
        assert min(weights) > 0, weights
        assert all(part.codec is self and part.count == out.count for part in parts)
        assert out.codec is self.of_means, out.codec.name
        total = float(sum(weights))
        factor_N = np.array([weight / total for weight in weights], np.float32)
        scales_at_N = np.array([part.scales_B.ctypes.data for part in parts], np.uint64)
        codes_at_N = np.array([part.codes.ctypes.data for part in parts], np.uint64)
        return scales_at_N, codes_at_N, factor_N

    def _require(self, encoded: Encoded, *vectors_P: Floats) -> None:
        assert encoded.codec is self, f"{encoded.codec.name} bytes given to {self.name}"
        for x_P in vectors_P:
            assert x_P.dtype == np.float32, x_P.dtype
            assert x_P.shape == (encoded.count,), (x_P.shape, encoded.count)
            assert x_P.flags.c_contiguous

    def _finite(self, block: int) -> None:
        if block != NONE:
            raise NonFinite(f"NaN or infinity among values {block * self.block} to {(block + 1) * self.block - 1}")


def _codec(name: str, block: int, bits: int, levels: int, module: Any, finer: Codec | None = None) -> Codec:
    code = BlockCode(bits, levels > 0, module.encode_block, module.decode_block, module.add_block)
    if finer is None:
        return Codec(name, block, levels, code, block_kernels(name, block, code, code))
    assert block == finer.block
    kernels = block_kernels(name, block, code, finer.code)
    return Codec(name, block, levels, code, kernels, finer, feedback_kernels(name, block, code, finer.code))


_INT4 = _codec("int4", 128, 4, 7, kernels_int4)

CODECS: dict[str, Codec] = {
    "fp32": _codec("fp32", 1024, 32, 0, kernels_float32),
    "int8": _codec("int8", 1024, 8, 127, kernels_int8),
    "int4": _INT4,
    "int2": _codec("int2", 128, 2, 3, kernels_int2, finer=_INT4),
}


def get_codec(name: str) -> Codec:
    """The codec of that name. Raises UnknownCodec."""
    try:
        return CODECS[name]
    except KeyError:
        raise UnknownCodec(f"unknown codec {name!r}: choose one of {', '.join(CODECS)}") from None
