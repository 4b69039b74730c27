"""Codes in fewer bytes, without loss: frequent ones take fewer bits (the Huffman coding of zstd, RFC 8878).

Codes of values that lie around zero are small more often than large. Of pseudo-gradients, int8's take 0.92 of their
bytes then, int4's 0.87, int2's 0.95 (benchmarks/packing.py). A core packs 0.6 to 1 GB of codes in a second, and unpacks
0.8 to 1.2 (benchmarks/codec.py).
"""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import NamedTuple

import numpy as np
from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError

from ops.encoded import BadCodes
from ops.jit import Bytes

LEVEL = 1
"""The fastest that packs single bytes at all; higher ones look longer for repetitions, which codes do not have."""
PAYS_BELOW = 0.98
"""Part of the codes' bytes."""
WINDOW_BYTES = 1 << 20
"""Memory that unpacking may take; twice what LEVEL asks for."""
SAMPLE_BYTES, TRIALS = 256 << 10, 5
"""What the cost of packing is measured by. The fastest trial counts: others are disturbed."""

_of_thread = threading.local()


def pack(codes: Bytes, out: Bytes) -> int:
    """Write `codes` in fewer bytes to `out`, as long as they; returns how many, 0 if that hardly makes them fewer.
    Without the GIL."""
    room = out[: int(PAYS_BELOW * codes.nbytes)]
    if not room.size:  # the library would wait for ever for a first byte
        return 0
    reader = _compressor().stream_reader(codes.data, size=codes.nbytes)
    count = reader.readinto(room.data)
    return int(count) if count < room.nbytes else 0


def unpack(packed: memoryview, codes: Bytes) -> None:
    """Write all of `codes`, from bytes that a peer has packed. Raises BadCodes. Without the GIL."""
    reader = _decompressor().stream_reader(packed)
    try:
        fits = reader.readinto(codes.data) == codes.nbytes and not reader.read(1)
    except ZstdError as error:
        raise BadCodes(f"packed codes: {error}") from None
    if not fits:
        raise BadCodes(f"packed codes of another length than {codes.nbytes} bytes")


def _compressor() -> ZstdCompressor:
    """This thread's: its memory costs more to clear than codes to pack."""
    if not hasattr(_of_thread, "compressor"):
        _of_thread.compressor = ZstdCompressor(level=LEVEL, write_checksum=False)
    compressor: ZstdCompressor = _of_thread.compressor
    return compressor


def _decompressor() -> ZstdDecompressor:
    if not hasattr(_of_thread, "decompressor"):
        _of_thread.decompressor = ZstdDecompressor(max_window_size=WINDOW_BYTES)
    decompressor: ZstdDecompressor = _of_thread.decompressor
    return decompressor


class Cost(NamedTuple):
    """Seconds of a core for each byte of codes."""

    pack: float
    unpack: float


@cache
def cost() -> Cost:
    """Of packing on this machine: measured once, in some milliseconds."""
    codes = np.random.default_rng(0).normal(0, 32, SAMPLE_BYTES).astype(np.int8).view(np.uint8)
    packed, out = np.empty_like(codes), np.empty_like(codes)
    times = []
    for _ in range(TRIALS):
        began = time.perf_counter()
        size = pack(codes, packed)
        between = time.perf_counter()
        unpack(packed.data[:size], out)
        times.append((between - began, time.perf_counter() - between))
    return Cost(*(min(trials) / SAMPLE_BYTES for trials in zip(*times, strict=True)))
