"""What the owner of a piece makes of its parts, and how a finished segment is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blake3 import blake3

from ops.encoded import Encoded


def segment_digest(mean: Encoded) -> bytes:
    """BLAKE3 of a segment's scales, then its codes: 32 bytes."""
    hasher = blake3()
    for buffer in mean.buffers():
        hasher.update(buffer)
    return hasher.digest()


Job = tuple[list[Encoded], Sequence[float], int, Encoded]
"""(parts of a piece, their weights, where in the vector it begins, where its mean goes)"""
MeanWriter = Callable[[Sequence[Encoded], Sequence[float], int, Encoded], None]
"""Writes the mean of a piece, the same bytes as `write_mean`, from several threads; and may remember what it likes."""


def write_mean(parts: Sequence[Encoded], weights: Sequence[float], _start: int, out: Encoded) -> None:
    parts[0].codec.mean(parts, weights, out)


def write_means(write: MeanWriter, jobs: Sequence[Job]) -> None:
    """In the pool: the mean of each piece."""
    for parts, weights, start, out in jobs:
        write(parts, weights, start, out)
