"""Bytes gone wrong: bits flipped, lengths that lie, counts without end, nests without bottom, types exchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

MARKERS = (
    *(b"\xc0", b"\xc1", b"\xc2", b"\x80", b"\x90", b"\xa0", b"\xff"),  # nil, never used, false, empty ones, -1
    *(b"\xca\x7f\xc0\x00\x00", b"\xcb\x7f\xf0" + bytes(6), b"\xcb\xff\xf8" + bytes(6)),  # nan, inf, -nan
    *(b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7), b"\xcf\x40" + bytes(7)),  # 2^64-1, -2^63, 2^62
    *(b"\xd4\x05\x00", b"\xd6\xff" + bytes(4), b"\xc7\x0c\xff" + bytes(12), b"\xc9\x00\x00\x00\x01\x07x"),  # extensions
    *(b"\xd9\x01\xff", b"\xc4\x00", b"\xa4\xf0\x9f\x98\x80", b"\x81\xc0\xc0"),  # no utf-8, empty bytes, astral, a map
)
HUGE = (
    *(b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xde\xff\xff"),  # arrays and maps
    *(b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\xdd\x00\x10\x00\x00"),
)


def mutated(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """`data` after one to three mishaps, of any kind, at any place."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(_MISHAPS)(random, data, others)
    return data


def _flip(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    if not data:
        return b"\x01"
    place = random.randrange(len(data))
    return data[:place] + bytes((data[place] ^ 1 << random.randrange(8),)) + data[place + 1 :]


def _overwrite(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    place = random.randrange(len(data) + 1)
    noise = random.randbytes(random.choice((1, 1, 2, 4, 8, 32)))
    return data[:place] + noise + data[place + len(noise) :]


def _truncate(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _extend(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    return data + random.randbytes(random.choice((1, 8, 100)))


def _repeat(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    start = random.randrange(len(data) + 1)
    piece = data[start : start + random.choice((1, 5, 40, 400))]
    return data[:start] + piece * random.choice((2, 3, 50)) + data[start:]


def _splice(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = random.choice(others) if others else data
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _marker(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Another type where a value begins, or anywhere."""
    place = random.randrange(len(data) + 1)
    return data[:place] + random.choice(MARKERS) + data[place + random.randrange(3) :]


def _lie(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """A length that is not true."""
    place = random.randrange(len(data) + 1)
    return data[:place] + random.choice(HUGE) + data[place + 1 :]


def _nest(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    place = random.randrange(len(data) + 1)
    return (
        data[:place] + random.choice((b"\x91", b"\x81\xa0", b"\x92\xc0")) * random.choice((3, 500, 3000)) + data[place:]
    )


def _noise(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    return random.randbytes(random.choice((0, 1, 7, 8, 9, 100, 1000)))


_MISHAPS: tuple[Callable[[Random, bytes, Sequence[bytes]], bytes], ...] = (
    *(_flip, _flip, _flip, _overwrite, _overwrite, _truncate, _extend, _repeat, _splice, _marker, _marker, _marker),
    *(_lie, _nest, _noise),
)
