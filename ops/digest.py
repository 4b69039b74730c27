"""BLAKE3 digests: of buffers, of their chunks, and of a list of digests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3

SIZE = 32
"""Bytes of a digest."""

Buffer: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[Any]
"""Anything C-contiguous with the buffer protocol."""

_ROOT = "swarm 2025 root of a list of digests"


def digest(*buffers: Buffer) -> bytes:
    """BLAKE3 of the buffers' bytes, one after the other. Large buffers are hashed without the GIL."""
    hasher = blake3()
    for buffer in buffers:
        hasher.update(_bytes_of(buffer))
    return hasher.digest()


def digest_chunks(buffer: Buffer, chunk_bytes: int) -> list[bytes]:
    """The digest of each `chunk_bytes` bytes; the last chunk may be shorter; none of an empty buffer."""
    assert chunk_bytes > 0, chunk_bytes
    view = _bytes_of(buffer)
    return [digest(view[start : start + chunk_bytes]) for start in range(0, len(view), chunk_bytes)]


def root(digests: Sequence[bytes]) -> bytes:
    """The digest that stands for a whole list, in its order. In a hash domain of its own: no buffer has it."""
    assert all(len(item) == SIZE for item in digests)
    return blake3(b"".join(digests), derive_key_context=_ROOT).digest()


def _bytes_of(buffer: Buffer) -> memoryview:
    view = buffer.data if isinstance(buffer, np.ndarray) else memoryview(buffer)
    return view.cast("B") if view.nbytes else memoryview(b"")
