"""A quantised vector: codes and scales, in the memory they are sent from and received into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ops.jit import Bytes, Floats
from ops.kernels_finite import all_finite

if TYPE_CHECKING:
    from ops.codec import Codec


class BadCodes(ValueError):
    """Received scales or codes that no quantisation of finite values gives."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """`count` fp32 values as written by `codec`.

    scales_B: float32, one a block (empty for fp32). codes: uint8, ceil(count * bits of a code / 8) bytes. Both
    C-contiguous and aligned; views share memory with what they were cut from.
    """

    codec: Codec
    count: int
    scales_B: Floats
    codes: Bytes

    def __post_init__(self) -> None:
        scales, codes = self.scales_B, self.codes
        assert scales.dtype == np.float32, scales.dtype
        assert scales.shape == (self.codec.scale_count(self.count),), scales.shape
        assert codes.dtype == np.uint8, codes.dtype
        assert codes.shape == (self.codec.code_bytes(self.count),), codes.shape
        assert scales.flags.c_contiguous
        assert scales.flags.aligned
        assert codes.flags.c_contiguous
        assert self.codec.scaled or codes.view(np.float32).flags.aligned

    @classmethod
    def allocate(cls, codec: Codec, count: int) -> Encoded:
        """Memory for `count` values, contents undefined."""
        scales_B = np.empty(codec.scale_count(count), np.float32)
        return cls(codec, count, scales_B, np.empty(codec.code_bytes(count), np.uint8))

    def slice(self, start: int, stop: int) -> Encoded:
        """Values [start, stop) as views. `start` is a multiple of the block; `stop` too, or it is `count`."""
        codec = self.codec
        assert 0 <= start <= stop <= self.count, (start, stop, self.count)
        assert start % codec.block == 0 or start == self.count, (start, codec.block)
        assert stop % codec.block == 0 or stop == self.count, (stop, codec.block)
        return Encoded(
            codec,
            stop - start,
            self.scales_B[codec.scale_count(start) : codec.scale_count(stop)],
            self.codes[codec.code_bytes(start) : codec.code_bytes(stop)],
        )

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return self.scales_B.nbytes + self.codes.nbytes

    def buffers(self) -> tuple[memoryview, ...]:
        """Byte views in wire order: scales, then codes; empty ones left out."""
        parts = (self.scales_B.data.cast("B") if self.scales_B.size else None, self.codes.data if self.count else None)
        return tuple(part for part in parts if part is not None)

    def check(self) -> None:
        """Raise BadCodes unless these bytes, received from a peer, decode to finite values on every machine."""
        if self.codec.scaled:
            self._check_scales()
        elif not all_finite(self.codes.view(np.float32)):
            raise BadCodes("values hold NaN or infinity")

    def _check_scales(self) -> None:
        # Unsigned comparison of the bits: negative scales, infinities and NaN are above the largest, and a denormal one
        # (which some machines would flush to zero) wraps around to above it. Zero alone is left to allow.
        smallest, largest = self.codec.scale_bits
        bits_B = self.scales_B.view(np.uint32)
        bad_B = ((bits_B - smallest) > (largest - smallest)) & (bits_B != 0)
        if bad_B.any():
            index = int(bad_B.argmax())
            raise BadCodes(f"block {index}: scale {self.scales_B[index]} cannot come from finite values")
        # The most negative code is never written; times one of the largest scales it would overflow.
        if (bits_B > self.codec.crowded_scale_bits).any() and self.codec.has_unused_code(self.codes):
            raise BadCodes("the most negative code, which is never written, beside a scale it would overflow with")


def copy_encoded(source: Encoded, target: Encoded) -> None:
    """Both of the same codec and count."""
    np.copyto(target.scales_B, source.scales_B)
    np.copyto(target.codes, source.codes)
