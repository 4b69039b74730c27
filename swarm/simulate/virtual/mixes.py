"""Which faults strike, how often, and for how long: the mixes that `--faults` names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["kill", "freeze", "restart", "join", "leave", "cut", "partition", "break", "slow", "corrupt", "skew"]


@dataclass(frozen=True)
class Mix:
    """`per_round`: faults in a round, on average, whatever the number of nodes."""

    name: str
    per_round: float
    shares: dict[Kind, float]


MIXES = {
    mix.name: mix
    for mix in (
        Mix("none", 0.0, {}),
        Mix("churn", 2.0, {"kill": 4, "restart": 3, "join": 2, "leave": 2}),
        Mix("partitions", 1.5, {"cut": 4, "partition": 3, "break": 3, "freeze": 1}),
        Mix(
            "chaos",
            2.7,
            {
                "kill": 5,
                "freeze": 3,
                "restart": 3,
                "join": 2,
                "leave": 2,
                "cut": 3,
                "partition": 1,
                "break": 2,
                "slow": 2,
                "corrupt": 2,
                "skew": 1,
            },
        ),
    )
}

SECONDS: dict[Kind, tuple[float, float]] = {
    "freeze": (0.2, 14.0),
    "cut": (0.5, 26.0),
    "partition": (1.0, 24.0),
    "slow": (3.0, 20.0),
    "restart": (0.05, 15.0),
}
"""Least and most time until a fault is mended; of a restart, between the kill and the start."""
