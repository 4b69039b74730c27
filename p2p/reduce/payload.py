"""Payloads on the wire: the scales and codes of a piece, its codes packed (ops/packing.py) where the network is slow.

Which of both a payload is shows in its length: packed it is shorter than the piece.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import Executor

from ops.encoded import BadCodes, Encoded
from ops.jit import Bytes
from ops.packing import pack, unpack
from p2p.protocol.messages import Mean, Part
from p2p.reduce.recycler import Recycler

PACKED_A_CORE = 20e6
"""Bytes a second. At this rate packing and unpacking take 4 to 6 % of a core, and spare 8 % of int8's bytes."""
PACKED = 160e6
"""However many cores there are: payloads are unpacked on the event loop."""
MEANS_KEPT = 32
"""A packed mean goes to everybody, at nearly the same time."""


def packs_below() -> float:
    """Bytes a second that an uplink of this machine carries at most when packing pays."""
    return min(PACKED, PACKED_A_CORE * (os.cpu_count() or 1))


class Packer:
    """Of one attempt."""

    def __init__(self, pool: Executor, recycler: Recycler) -> None:
        self.narrow: set[str] = set()
        """Peers for whom payloads are packed."""
        self._pool, self._recycler = pool, recycler
        self._means: dict[int, asyncio.Future[memoryview]] = {}

    async def payload(self, peer: str, message: Part | Mean, codes: Encoded) -> Sequence[memoryview]:
        """Of this message to `peer`, which speaks of these codes. Waits only where they are packed."""
        if peer not in self.narrow or not codes.codec.scaled:
            return codes.buffers()
        packed = await asyncio.shield(self._packed(message, codes))
        return (*codes.buffers()[:-1], packed) if packed else codes.buffers()

    def _packed(self, message: Part | Mean, codes: Encoded) -> asyncio.Future[memoryview]:
        """Empty if that does not make them fewer bytes."""
        known = self._means.get(message.start) if isinstance(message, Mean) else None
        if known is not None:
            return known
        space = self._recycler.allocate(codes.codec, codes.count).codes
        job = asyncio.get_running_loop().run_in_executor(self._pool, _pack, codes.codes, space)
        if isinstance(message, Mean):
            self._means[message.start] = job
            if len(self._means) > MEANS_KEPT:
                del self._means[next(iter(self._means))]
        return job


def _pack(codes: Bytes, space: Bytes) -> memoryview:
    return space.data[: pack(codes, space)]


class Incoming:
    """The payload of a piece, on its way into `space`."""

    def __init__(self, space: Encoded, size: int, recycler: Recycler) -> None:
        """`size`: bytes of the payload. Raises BadCodes if it is none of this piece."""
        scales = space.nbytes - space.codes.nbytes
        if not scales < size <= space.nbytes:
            raise BadCodes(f"{size} bytes where {space.nbytes} belong")
        self._space = space
        self._packed: memoryview | None = None
        if size < space.nbytes:
            self._packed = recycler.allocate(space.codec, space.count).codes.data[: size - scales]

    def buffers(self) -> Sequence[memoryview]:
        """Where it goes, in order."""
        buffers = self._space.buffers()
        return buffers if self._packed is None else (*buffers[:-1], self._packed)

    def finish(self) -> Encoded:
        """The piece, now that all has come. Raises BadCodes."""
        if self._packed is not None:
            unpack(self._packed, self._space.codes)
        self._space.check()
        return self._space
