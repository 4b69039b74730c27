"""Kinds of links: how long a message takes between two nodes, and how much a node can send and receive.

A lost packet of a TCP connection is a late one: its retransmission takes a round trip or a timeout, and what was sent
after it waits for it. So loss appears here as rare long delays.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from swarm.simulate.virtual.timeline import TICKS

NOISES = 4093
"""Draws in a table of delays: walked through in turn, which is as good as drawing each one and much cheaper."""
RETRANSMIT_TICKS = 200
"""The least timeout of TCP's retransmission."""
RETRIES = 3


@dataclass(frozen=True)
class Profile:
    """One kind of network. Times in ticks, rates in bytes a second."""

    name: str
    near: tuple[int, int]
    """Least and most delay between two nodes of one site."""
    far: tuple[int, int]
    """... of different sites."""
    sites: int
    jitter: int
    loss: float
    """Share of messages that are lost at first."""
    rates: tuple[float, float]
    """Least and most bandwidth of a node, up and down."""


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("lan", near=(0, 1), far=(0, 1), sites=1, jitter=1, loss=0.0, rates=(1e9, 1e9)),
        Profile("wan", near=(5, 15), far=(15, 120), sites=8, jitter=8, loss=0.004, rates=(2.5e7, 1.2e8)),
        Profile("mixed", near=(1, 3), far=(10, 90), sites=5, jitter=5, loss=0.002, rates=(1e7, 1e9)),
    )
}


def noise_table(profile: Profile, draws: random.Random) -> list[int]:
    """Ticks to add to the delays of successive messages: jitter, and retransmissions of what is lost."""
    table = []
    for _ in range(NOISES):
        delay = draws.randint(0, profile.jitter)
        timeout = RETRANSMIT_TICKS
        for _ in range(RETRIES):
            if draws.random() >= profile.loss:
                break
            delay += timeout
            timeout *= 2
        table.append(delay)
    return table


class Map:
    """Where nodes are: pairs of sites and their distances, and each node's site and bandwidth."""

    def __init__(self, profile: Profile, draws: random.Random) -> None:
        self.profile = profile
        self._draws = draws
        self._distances = {
            (a, b): draws.randint(*(profile.near if a == b else profile.far))
            for a in range(profile.sites)
            for b in range(a, profile.sites)
        }

    def place(self) -> tuple[int, float, float]:
        """A new node's site, and what it can send and receive, in bytes a tick."""
        low, high = self.profile.rates
        up, down = (low * (high / low) ** self._draws.random() / TICKS for _ in range(2))
        return self._draws.randrange(self.profile.sites), up, down

    def distance(self, one: int, other: int) -> int:
        """Ticks that a message takes between two sites."""
        return self._distances[min(one, other), max(one, other)]
