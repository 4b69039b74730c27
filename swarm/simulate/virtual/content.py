"""What payloads stand for in a simulation: not numbers, but where they come from.

Codes are named by who quantised what. A mean is the list of (codes, weight) that went into it, in order; two means are
the same bytes if and only if their lists are equal. State is a chain of hashes: of the chunk before and the mean that
moved it. So whether weights are exact and replicas equal can be read off, and digests are hashes of the content.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from p2p.protocol.model import Range

CHUNKS = 4
"""Chunks of the state: few, because each newcomer fetches them all."""
_REMEMBERED = 1 << 14


@dataclass(frozen=True, eq=False, slots=True)
class Codes:
    """One member's quantised pseudo-gradient of one round. Whoever trains again has other codes."""

    peer: str
    life: int
    """Which process of this peer: a restarted one trains anew."""
    round: int
    tokens: int
    used: tuple[Range, ...]
    earlier: int = 0
    """Tokens of earlier rounds whose work is in it, too."""


@dataclass(frozen=True, eq=False, slots=True)
class Mean:
    """sum(weight x codes) / sum(weights), in this order. `MeanBook` has one object for equal means."""

    codes: tuple[Codes, ...]
    weights: tuple[float, ...]
    digest: bytes


class MeanBook:
    """All means of a simulation: the same codes with the same weights in the same order are the same mean."""

    def __init__(self) -> None:
        self._means: dict[tuple[tuple[Codes, ...], tuple[float, ...]], Mean] = {}

    def mean(self, codes: tuple[Codes, ...], weights: tuple[float, ...]) -> Mean:
        known = self._means.get((codes, weights))
        if known is None:
            if len(self._means) > _REMEMBERED:
                self._means.clear()
            names = tuple((one.peer, one.life, one.round) for one in codes)
            known = self._means[codes, weights] = Mean(codes, weights, hashed(names, weights))
        return known


def hashed(*parts: object) -> bytes:
    """32 bytes that stand for all of this."""
    return blake2b(repr(parts).encode(), digest_size=32).digest()


@lru_cache(_REMEMBERED)
def joint_digest(digests: tuple[bytes, ...]) -> bytes:
    """Of several pieces with these digests."""
    return digests[0] if len(set(digests)) == 1 else hashed(digests)


@lru_cache(_REMEMBERED)
def stepped(index: int, chunk: bytes, mean: bytes) -> bytes:
    """A chunk after the outer step with that mean."""
    return hashed(index, chunk, mean)


@lru_cache(_REMEMBERED)
def root_of(chunks: tuple[bytes, ...]) -> bytes:
    return hashed("root", chunks)


GENESIS = tuple(hashed("genesis", index) for index in range(CHUNKS))
