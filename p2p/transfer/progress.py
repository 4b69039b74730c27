"""How far a fetch of state has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FetchProgress:
    """Chunks fall behind while the others commit rounds, and means bring them up to date."""

    chunks: int
    """That are here, of whatever round."""
    current: int
    """Of them, those of the round that is aimed at."""
    of_chunks: int
    bytes: int
    """Payload that was of use."""
    donors: int
    """Who sent it."""
