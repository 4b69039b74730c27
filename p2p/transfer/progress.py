"""How far a fetch of state has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FetchProgress:
    """Chunks may fall behind again while the others commit rounds: means bring them up to date."""

    chunks: int
    """That are of the round which is aimed at."""
    of_chunks: int
    bytes: int
    """Payload that was of use."""
    donors: int
    """Who sent it."""
