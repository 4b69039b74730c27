"""A seeded shuffle of range(count) that is computed, not stored.

A Feistel network over the next power of four permutes a slightly larger range; walking its cycle until the value falls
below count restricts it to a permutation of range(count) (Black and Rogaway, "Ciphers with Arbitrary Finite Domains",
2002). Every machine computes the same order with integers alone, whatever the size of the data.
"""

from __future__ import annotations

import hashlib

_ROUNDS = 6
_MASK_64 = (1 << 64) - 1


class Permutation:
    """A bijection on range(count) chosen by (seed, epoch): a few microseconds a call, no memory."""

    def __init__(self, count: int, seed: int, epoch: int = 0) -> None:
        assert count > 0, "an empty range has no permutation"
        self.count = count
        self._half_bits = max(1, ((count - 1).bit_length() + 1) // 2)
        self._half_mask = (1 << self._half_bits) - 1
        material = hashlib.blake2b(f"{seed}/{epoch}/{count}".encode(), digest_size=8 * _ROUNDS).digest()
        self._keys = tuple(int.from_bytes(material[8 * i : 8 * i + 8], "little") for i in range(_ROUNDS))

    def __call__(self, index: int) -> int:
        """Where index goes; 0 <= index < count."""
        assert 0 <= index < self.count, "index outside of the permuted range"
        value = self._network(index)
        while value >= self.count:  # at most four values a permuted one: 1.0 to 4.0 turns on average
            value = self._network(value)
        return value

    def _network(self, value: int) -> int:
        left, right = value >> self._half_bits, value & self._half_mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & self._half_mask)
        return (left << self._half_bits) | right


def _mix(value: int) -> int:
    """The finaliser of splitmix64: every bit of the result depends on every bit of value."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return value ^ (value >> 31)
