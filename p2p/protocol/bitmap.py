"""Sets of small numbers as bytes: bit i of byte j stands for the number 8 j + i. One set has one form for each size."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache


def pack(numbers: Iterable[int], size: int) -> bytes:
    """A set of numbers below `size` in ceil(size / 8) bytes."""
    mask = 0
    for number in numbers:
        assert 0 <= number < size
        mask |= 1 << number
    return mask.to_bytes(-(-size // 8), "little")


@lru_cache(1024)
def unpack(data: bytes) -> tuple[int, ...]:
    """The numbers, ascending."""
    mask = int.from_bytes(data, "little")
    numbers = []
    while mask:
        lowest = mask & -mask
        numbers.append(lowest.bit_length() - 1)
        mask ^= lowest
    return tuple(numbers)


def fits(data: bytes, size: int) -> bool:
    """Whether these bytes are the form of a set of numbers below `size`."""
    return len(data) == -(-size // 8) and int.from_bytes(data, "little") >> size == 0
