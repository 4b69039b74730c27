"""Padding for a young lane, against a model of a connection."""

from __future__ import annotations

import pytest

from p2p.channel.warm_up import ENOUGH, WarmUp

MOST = 2_600_000
YOUNG = 7_000


def grow(round_trip: float, limit: int = MOST, step: float = 0.25) -> tuple[float, int, int]:
    """Seconds, bytes of padding and the window when a warm-up is over, on a connection that doubles with every round
    trip's padding up to `limit`."""
    warm_up, now, sent, window = WarmUp(), 0.0, 0, float(YOUNG)
    while not warm_up.over:
        padding = warm_up.padding(now, int(window), round_trip, MOST, 0)
        sent += padding
        now += step
        window = min(limit, 2 ** (step / round_trip) * window, window + padding)
        assert now < 60
    return now, sent, int(window)


@pytest.mark.parametrize("round_trip", [0.03, 0.15, 0.3])
def test_a_lane_grows_in_some_seconds_with_a_few_times_what_it_holds(round_trip: float) -> None:
    seconds, sent, window = grow(round_trip)
    assert window > 0.8 * MOST
    assert seconds < 5
    assert sent < ENOUGH * MOST


def test_a_lane_that_gets_no_faster_is_let_be() -> None:
    seconds, sent, window = grow(0.1, limit=100_000)
    assert window == 100_000
    assert seconds < 5
    assert sent < MOST


def test_there_is_an_end_to_padding() -> None:
    warm_up = WarmUp()
    sent = sum(warm_up.padding(now, int(1000 * 1.3**now), 0.1, MOST, 0) for now in range(30))
    assert warm_up.over
    assert sent <= (ENOUGH + 1) * MOST


def test_what_waits_already_is_enough() -> None:
    warm_up = WarmUp()
    assert warm_up.padding(0.0, YOUNG, 0.1, MOST, 1) == 0
    assert not warm_up.over
    assert warm_up.padding(0.1, YOUNG, 0.1, MOST, 0) > 0


def test_a_grown_lane_needs_none() -> None:
    warm_up = WarmUp()
    assert warm_up.padding(0.0, MOST, 0.1, MOST, 0) == 0
    assert warm_up.over
    assert warm_up.padding(10.0, 0, 0.1, MOST, 0) == 0
