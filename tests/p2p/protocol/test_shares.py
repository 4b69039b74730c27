"""Shares by measured rates take the least time that any shares can."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from p2p.protocol.shares import MOST_SHARE, Rates, best_shares, seconds, shares_of

speeds = st.floats(0.05, 50.0)
swarms = st.lists(st.tuples(speeds, speeds, st.booleans()), min_size=2, max_size=7).filter(
    lambda members: any(gives for _, _, gives in members)
)


def least_time(rates: Sequence[Rates], contributes: Sequence[bool], most: Sequence[float]) -> float:
    """By a general solver, over shares and the time."""
    n, c = len(rates), sum(contributes)
    rows, limits = [], []
    for i, (rate, gives) in enumerate(zip(rates, contributes, strict=True)):
        for others, base, speed in ((n - 1, float(gives), rate.up), (c - gives, 1.0, rate.down)):
            row = np.zeros(n + 1)
            row[i] = others - base
            row[n] = -speed
            rows.append(row)
            limits.append(-base)
    one = np.append(np.ones(n), 0.0)[None]
    bounds = [(0.0, limit) for limit in most] + [(0.0, None)]
    found = linprog(np.append(np.zeros(n), 1.0), np.array(rows), limits, one, [1.0], bounds)
    assert found.success, found.message
    return float(found.fun)


@given(swarms, st.data())
def test_no_other_shares_take_less_time(members: list[tuple[float, float, bool]], data: st.DataObject) -> None:
    rates = [Rates(up, down) for up, down, _ in members]
    contributes = [gives for _, _, gives in members]
    most = data.draw(st.lists(st.sampled_from([0.0, 0.4, 1.0]), min_size=len(members), max_size=len(members)))
    if sum(most) < 1:
        most[0] = 1.0
    found = best_shares(rates, contributes, most)
    assert sum(found) == pytest.approx(1.0)
    assert all(-1e-9 <= share <= limit + 1e-9 for share, limit in zip(found, most, strict=True))
    assert seconds(rates, contributes, found) == pytest.approx(least_time(rates, contributes, most), rel=1e-6)


def test_equal_links_get_equal_shares_and_the_time_of_any_all_reduce() -> None:
    rates = [Rates(1.0, 1.0)] * 4
    assert best_shares(rates, [True] * 4, [1.0] * 4) == pytest.approx([0.25] * 4)
    assert seconds(rates, [True] * 4, [0.25] * 4) == pytest.approx(2 * 3 / 4)


def test_a_link_ten_times_slower_reduces_nothing() -> None:
    rates = {"a": Rates(10, 10), "b": Rates(10, 10), "c": Rates(10, 10), "slow": Rates(1, 1)}
    assert shares_of(list(rates), set(rates), set(rates), rates) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])


def test_each_direction_counts() -> None:
    """Who uploads slowly sends few means; who downloads slowly takes few parts."""
    rates = {"a": Rates(10, 10), "b": Rates(10, 10), "up": Rates(4, 10), "down": Rates(10, 4)}
    a, b, up, down = shares_of(list(rates), set(rates), set(rates), rates)
    assert up < 0.1 < a == pytest.approx(b)
    assert down < 0.1


def test_small_differences_change_nothing() -> None:
    rates = {"a": Rates(10, 10), "b": Rates(9, 11), "c": Rates(11, 9)}
    assert shares_of(list(rates), set(rates), set(rates), rates) == [1 / 3] * 3


def test_nothing_is_known_at_first() -> None:
    assert shares_of(["a", "b", "c"], {"a", "b", "c"}, {"a", "b"}, {}) == [0.5, 0.5, 0.0]


def test_whoever_is_not_known_counts_as_ordinary() -> None:
    rates = {"a": Rates(10, 10), "b": Rates(10, 10), "slow": Rates(1, 1)}
    members = [*rates, "new"]
    a, b, slow, new = shares_of(members, set(rates), set(members), rates)
    assert new >= a == pytest.approx(b)
    assert slow == pytest.approx(0.0, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0, 1e15), st.floats(0, 1e15)), min_size=1, max_size=12))
def test_whatever_is_claimed_the_shares_are_shares(claims: list[tuple[float, float]]) -> None:
    names = [str(index) for index in range(len(claims))]
    rates = {name: Rates(*claim) for name, claim in zip(names, claims, strict=True)}
    found = shares_of(names, set(names), set(names), rates)
    assert sum(found) == pytest.approx(1.0)
    assert all(-1e-9 <= share <= min(1.0, MOST_SHARE / len(names)) + 1e-9 for share in found)


def test_a_liar_cannot_make_a_round_more_than_two_and_a_half_times_as_long() -> None:
    for n in (2, 3, 4, 8, 32, 128):
        true = [Rates(1, 1)] * n
        said = {str(index): Rates(1, 1) for index in range(n - 1)} | {"liar": Rates(1e15, 1e15)}
        shares = shares_of(list(said), set(said), set(said), said)
        assert seconds(true, [True] * n, shares) <= 2.6 * seconds(true, [True] * n, [1 / n] * n)
