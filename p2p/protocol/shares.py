"""How much of the vector each owner reduces, by the speed of the members' links. Pure.

Of a vector of one unit, a member that owns share s of it, of n members with c contributors, uploads

    its part of what others own, 1 - s (if it contributes), and its mean to n - 1 others: (n - 1) s

and downloads the parts of what it owns from the other contributors, and the others' means, 1 - s. Both are of the form
b + k s, so within a given time each bounds s, and the least time in which shares that sum to 1 fit their bounds is
found by bisection. For equal links that is the known 2 (n - 1) / n a member, by equal shares.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import NamedTuple

MIN_GAIN = 0.20
"""Shares are equal unless others are expected to save so much of the time: measured rates are never quite right, and
equal links must not pay for that."""
MOST_SHARE = 4.0
"""Nobody owns more than so many times the equal share: who claims more than its link can do, slows a round down no
further."""
_STEPS = 60


class Rates(NamedTuple):
    """Speed of a member's link, bytes a second; 0: not known."""

    up: float
    down: float


UNKNOWN = Rates(0, 0)


class _Load(NamedTuple):
    """What a member moves in one direction: base + slope * share, over a link of this rate."""

    base: float
    slope: float
    rate: float


def _loads(rates: Sequence[Rates], contributes: Sequence[bool]) -> list[tuple[_Load, _Load]]:
    members, contributors = len(rates), sum(contributes)
    return [
        (
            _Load(float(gives), members - 1 - gives, rate.up),
            _Load(1.0, contributors - gives - 1, rate.down),
        )
        for rate, gives in zip(rates, contributes, strict=True)
    ]


def seconds(rates: Sequence[Rates], contributes: Sequence[bool], shares: Sequence[float]) -> float:
    """The time that these shares take, in units of one vector over a rate of 1."""
    pairs = zip(_loads(rates, contributes), shares, strict=True)
    return max((load.base + load.slope * share) / load.rate for loads, share in pairs for load in loads)


def best_shares(rates: Sequence[Rates], contributes: Sequence[bool], most: Sequence[float]) -> list[float]:
    """The shares, at most `most` each, that take the least time; slack is spread evenly. All rates are known (> 0).

    The sum of `most` is at least 1.
    """
    loads = _loads(rates, contributes)
    low, high = 0.0, seconds(rates, contributes, [share / sum(most) for share in most])
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _bounds(loads, most, middle) is None:
            low = middle
        else:
            high = middle
    bounds = _bounds(loads, most, high)
    assert bounds is not None, "shares in proportion to their limits fit"
    least, room = sum(bottom for bottom, _ in bounds), sum(top - bottom for bottom, top in bounds)
    part = (1 - least) / room if room else 0.0
    return [bottom + part * (top - bottom) for bottom, top in bounds]


def _bounds(
    loads: Sequence[tuple[_Load, _Load]], most: Sequence[float], time: float
) -> list[tuple[float, float]] | None:
    """Between what each member's share lies if all is done in this time; None if it cannot be."""
    bounds = []
    for pair, limit in zip(loads, most, strict=True):
        bottom, top = 0.0, limit
        for base, slope, rate in pair:
            spare = rate * time * (1 + 1e-12) - base
            if slope > 0:
                top = min(top, spare / slope)
            elif slope < 0:
                bottom = max(bottom, spare / slope)
            elif spare < 0:
                return None
        if bottom > top:
            return None
        bounds.append((bottom, top))
    fits = sum(bottom for bottom, _ in bounds) <= 1 <= sum(top for _, top in bounds) + 1e-12
    return bounds if fits else None


def shares_of(
    members: Sequence[str], contributors: Collection[str], owners: Collection[str], rates: Mapping[str, Rates]
) -> list[float]:
    """The shares of `members` in the order given; only `owners` have any. Rates not known count as ordinary."""
    equal = [1 / len(owners) if peer in owners else 0.0 for peer in members]
    known = [rates.get(peer, UNKNOWN) for peer in members]
    ups, downs = [rate.up for rate in known if rate.up], [rate.down for rate in known if rate.down]
    if not ups or not downs or len(members) < 2:
        return equal
    speeds = [Rates(rate.up or median(ups), rate.down or median(downs)) for rate in known]
    contributes = [peer in contributors for peer in members]
    best = best_shares(speeds, contributes, [min(1.0, MOST_SHARE * share) for share in equal])
    gains = seconds(speeds, contributes, best) < (1 - MIN_GAIN) * seconds(speeds, contributes, equal)
    return best if gains else equal
