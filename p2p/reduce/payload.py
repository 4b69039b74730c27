"""Payloads on the wire: the scales and codes of a piece, its codes packed (ops/packing.py) where the network is slow.

Which of both a payload is shows in its length: packed it is shorter than the piece.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from math import inf

from ops.encoded import BadCodes, Encoded
from ops.jit import Bytes
from ops.packing import Cost, cost, pack, unpack
from p2p.protocol.messages import Mean, Part
from p2p.protocol.model import BadMessage
from p2p.reduce.recycler import Recycler

PART_SHARE, MEAN_SHARE = 0.04, 0.06
"""Part of all cores that packing and unpacking may take: less for parts, where it spares less for what it takes."""
LOOP_SHARE = 0.1
"""Part of the event loop's time, on which payloads are unpacked."""
MEANS_KEPT = 32
"""A packed mean goes to everybody, at nearly the same time."""


def pays_below(cost: Cost, cores: int, others: int) -> dict[type[Part] | type[Mean], float]:
    """Bytes a second that our way to all of the others carries at most when packing what we send pays.

    We are sent as much as we send. A part is packed for its owner; a mean once, for all of the others.
    """

    def limit(share: float, pack: float) -> float:
        return min(share * cores / (pack + cost.unpack), LOOP_SHARE / cost.unpack)

    return {Part: limit(PART_SHARE, cost.pack), Mean: limit(MEAN_SHARE, cost.pack / max(1, others))}


class Packer:
    """Of one attempt."""

    def __init__(self, pool: Executor, recycler: Recycler, others: int) -> None:
        self.ways: Mapping[str, float] = {}
        """Bytes a second that the ways to the others carry; those that are not in it are not known."""
        self._pool, self._recycler, self._others = pool, recycler, others
        self._limits = pays_below(cost(), os.cpu_count() or 1, others)
        self._means: dict[int, asyncio.Future[memoryview]] = {}

    async def payload(self, peer: str, message: Part | Mean, codes: Encoded) -> Sequence[memoryview]:
        """Of this message to `peer`, which speaks of these codes. Waits only where they are packed."""
        if not codes.codec.scaled or self._others * self.ways.get(peer, inf) >= self._limits[type(message)]:
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
    """The payload of a message, on its way into `space`."""

    def __init__(self, message: Part | Mean, space: Encoded, size: int, recycler: Recycler) -> None:
        """`size`: bytes of the payload. Raises BadMessage if it is none of this piece."""
        scales = space.nbytes - space.codes.nbytes
        if not scales < size <= space.nbytes:
            raise BadMessage(f"{message.KIND} of {size} bytes where {space.nbytes} belong")
        self._message, self._space = message, space
        self.whole = False
        """All of it has come, and is valid."""
        self._packed: memoryview | None = None
        if size < space.nbytes:
            self._packed = recycler.allocate(space.codec, space.count).codes.data[: size - scales]

    def buffers(self) -> Sequence[memoryview]:
        """Where it goes, in order."""
        buffers = self._space.buffers()
        return buffers if self._packed is None else (*buffers[:-1], self._packed)

    def finish(self) -> Encoded:
        """The piece, now that all has come; may be asked for again. Raises BadMessage."""
        if not self.whole:
            try:
                if self._packed is not None:
                    unpack(self._packed, self._space.codes)
                self._space.check()
            except BadCodes as error:
                message = self._message
                raise BadMessage(f"{message.KIND} [{message.start}, {message.stop}): {error}") from None
            self.whole = True
        return self._space
