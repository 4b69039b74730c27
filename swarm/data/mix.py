"""Which source each sample comes from: weights that hold over every prefix, not merely on average.

A mix is written `fineweb-edu:55, stack:20; @1000000 fineweb-edu:80, stack:10`: sources with whole weights, and after a
semicolon those that hold from a global sample index on.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from swarm.data.source import DataError

EMBEDDED = "embedded"
MAX_PERIOD = 100_000
MAX_ENTRIES = 48
"""Weights in all phases: they have to fit a Hello, with the digest of every source."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PHASE = re.compile(r"@(\d+)\s+(.*)", re.DOTALL)


class BadMix(DataError, ValueError):
    """The text of a mix does not say what it should; the message shows how."""


@dataclass(frozen=True, slots=True)
class Phase:
    """The weights that hold from the global sample index `begin` on, by ascending name, without a common divisor."""

    begin: int
    weights: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        text = ", ".join(name if len(self.weights) == 1 else f"{name}:{weight}" for name, weight in self.weights)
        return f"@{self.begin} {text}" if self.begin else text


@dataclass(frozen=True, slots=True)
class Mix:
    """Phases by ascending begin, the first at 0. str() is its one canonical form, so equal mixes are equal text."""

    phases: tuple[Phase, ...]

    def __str__(self) -> str:
        return "; ".join(map(str, self.phases))

    @property
    def names(self) -> tuple[str, ...]:
        """Every source that any phase draws from."""
        return tuple(sorted({name for phase in self.phases for name, _ in phase.weights}))


def parse_mix(text: str) -> Mix:
    """Raises BadMix."""
    phases = [_phase(part.strip(), first=not index) for index, part in enumerate(text.split(";"))]
    for before, after in pairwise(phases):
        if after.begin <= before.begin:
            raise BadMix(f"the phase @{after.begin} does not begin after the one before it")
    if sum(len(phase.weights) for phase in phases) > MAX_ENTRIES:
        raise BadMix(f"a mix has at most {MAX_ENTRIES} weights in all its phases")
    return Mix(tuple(phases))


def _phase(text: str, first: bool) -> Phase:
    begin = 0
    if not first:
        match = _PHASE.fullmatch(text)
        if not match:
            raise BadMix(f"{text!r}: a later phase begins with the sample from which it holds, as in `@1000000 a:1`")
        begin, text = int(match[1]), match[2]
    weights: dict[str, int] = {}
    for part in text.split(","):
        name, colon, weight = (piece.strip() for piece in part.partition(":"))
        if not _NAME.fullmatch(name) or (colon and not re.fullmatch(r"[1-9]\d{0,8}", weight)):
            raise BadMix(f"{part.strip()!r} is no source with a whole weight like `fineweb-edu:55`")
        if name in weights:
            raise BadMix(f"{name} occurs twice in one phase")
        weights[name] = int(weight) if colon else 1
    divisor = math.gcd(*weights.values())
    reduced = tuple((name, weights[name] // divisor) for name in sorted(weights))
    if sum(weight for _, weight in reduced) > MAX_PERIOD:
        raise BadMix(f"the weights {text!r} are too fine: without common divisors they may add up to {MAX_PERIOD}")
    return Phase(begin, reduced)


class Interleave:
    """Maps a global sample index to its source and to the sample's position among those of that source.

    After any n samples of a phase, each source has given its share of n to within one sample.
    """

    def __init__(self, mix: Mix) -> None:
        self._begins = [phase.begin for phase in mix.phases]
        self._schedules = [_Schedule(phase) for phase in mix.phases]
        self._offsets: list[dict[str, int]] = [{}]
        """Samples that each source gave before the phase."""
        for index in range(1, len(mix.phases)):
            length = self._begins[index] - self._begins[index - 1]
            before, given = self._offsets[-1], self._schedules[index - 1].given(length)
            self._offsets.append({name: before.get(name, 0) + given.get(name, 0) for name in {*before, *given}})

    def __call__(self, index: int) -> tuple[str, int]:
        phase = bisect_right(self._begins, index) - 1
        name, position = self._schedules[phase](index - self._begins[phase])
        return name, self._offsets[phase].get(name, 0) + position


class _Schedule:
    """One phase: a period of sum(weights) slots, repeated.

    Unit j of a source with weight w in a period of W slots may take the slots from floor(j W / w) until before
    ceil((j + 1) W / w); of those that may, the one that must be done first gets the slot. There is room for all, and
    it keeps every source within one of its share in each prefix (Baruah et al., "Proportionate Progress", 1996).
    """

    def __init__(self, phase: Phase) -> None:
        self.names = [name for name, _ in phase.weights]
        self.weights = [weight for _, weight in phase.weights]
        self.period = sum(self.weights)
        self._source_of = np.empty(self.period, dtype=np.int32)
        self._rank_of = np.empty(self.period, dtype=np.int32)
        given = [0] * len(self.names)
        for slot in range(self.period):
            source = min(
                (i for i, weight in enumerate(self.weights) if given[i] * self.period // weight <= slot),
                key=lambda i: (-(-(given[i] + 1) * self.period // self.weights[i]), i),
            )
            self._source_of[slot], self._rank_of[slot] = source, given[source]
            given[source] += 1
        assert given == self.weights, "a period gives each source exactly its weight"

    def __call__(self, index: int) -> tuple[str, int]:
        turn, slot = divmod(index, self.period)
        source = int(self._source_of[slot])
        return self.names[source], turn * self.weights[source] + int(self._rank_of[slot])

    def given(self, count: int) -> dict[str, int]:
        """How many of the first `count` samples come from each source."""
        turns, rest = divmod(count, self.period)
        extra = np.bincount(self._source_of[:rest], minlength=len(self.names))
        return {
            name: turns * weight + int(more) for name, weight, more in zip(self.names, self.weights, extra, strict=True)
        }
