"""Which of a link's bulk lanes a frame goes by: the one that will have carried it soonest. Pure.

A young connection doubles what it has under way with every round trip, from 15 KB on: on a long way a frame on it takes
longer than many on the others, and all wait for it; one that BBR lets rest to measure the way is no better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Lane(NamedTuple):
    """What is known of a connection."""

    outstanding: int
    """Bytes that it was given, and that are not known to have arrived."""
    window: int
    """Bytes that it carries in a round trip at present; 0: not known."""
    round_trip: float
    """Seconds; 0: not known."""
    most: int
    """Bytes that it can carry in a round trip, once it is grown."""


def choose(lanes: Sequence[Lane], size: int) -> int:
    """The index of the lane for a frame of `size` bytes."""
    return min(range(len(lanes)), key=lambda index: (seconds(lanes[index], size), lanes[index].outstanding))


def seconds(lane: Lane, size: int) -> float:
    """Until a further `size` bytes will have been carried."""
    need, window, rounds = float(lane.outstanding + size), float(max(1, lane.window)), 0
    while need > window and window < lane.most:
        need, window, rounds = need - window, min(2 * window, lane.most), rounds + 1
    return (rounds + need / window) * lane.round_trip
