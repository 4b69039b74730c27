"""Digests of buffers, chunks and lists."""

from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from ops.digest import digest, digest_chunks, root


def test_it_is_blake3_of_the_bytes_whatever_holds_them() -> None:
    x_P = np.arange(6, dtype=np.float32)
    expected = blake3(x_P.tobytes()).digest()
    for buffer in (x_P, x_P.reshape(2, 3), x_P.tobytes(), bytearray(x_P.tobytes()), memoryview(x_P)):
        assert digest(buffer) == expected
    assert digest(x_P[:2], x_P[2:]) == expected
    assert digest(np.zeros(0, np.float32)) == digest() == blake3(b"").digest()


@given(st.binary(max_size=200), st.integers(1, 64))
def test_chunks_are_digested_one_by_one(data: bytes, chunk: int) -> None:
    expected = [digest(data[start : start + chunk]) for start in range(0, len(data), chunk)]
    assert digest_chunks(data, chunk) == expected
    assert digest_chunks(np.frombuffer(data, np.uint8), chunk) == expected


def test_the_root_depends_on_each_digest_and_on_the_order() -> None:
    a, b, c = (digest(bytes([n])) for n in range(3))
    roots = {root(items) for items in ([], [a], [a, b], [b, a], [a, b, c], [a, a])}
    assert len(roots) == 6
    assert root([a, b]) != digest(a + b)
    assert root([a, b]) == root((a, b))


def test_only_digests_and_real_chunks() -> None:
    with pytest.raises(AssertionError):
        root([b"short"])
    with pytest.raises(AssertionError):
        digest_chunks(b"x", 0)
