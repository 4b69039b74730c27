"""What a node says of its link is what its link does."""

from __future__ import annotations

import pytest

from p2p.channel.meter import Load
from p2p.protocol.shares import UNKNOWN, Rates
from p2p.reduce.rate_meter import RateMeter


def reduce(meter: RateMeter, *stages: tuple[float, float, float], backlogged: float = 1.0) -> None:
    """A reduce of stages (seconds, up, down), read every quarter of a second; `backlogged`: share of the others for
    whom there is something to send."""
    at = sent = received = 0.0
    meter.read(at, Load(0, 0, 3), backlogged)
    for seconds, up, down in stages:
        for _ in range(int(seconds * 4)):
            at, sent, received = at + 0.25, sent + up / 4, received + down / 4
            meter.read(at, Load(int(sent), int(received), 3), backlogged)
    meter.pause()


def test_each_direction_is_measured() -> None:
    meter = RateMeter()
    reduce(meter, (2.0, 100, 300))
    assert meter.rates == Rates(100, 300)


def test_who_only_waits_for_others_does_not_take_itself_for_slow() -> None:
    meter = RateMeter()
    reduce(meter, (2.0, 100, 300))
    reduce(meter, (1.0, 1, 300), (5.0, 1, 2), backlogged=1 / 3)
    assert meter.rates == Rates(100, 300)


def test_who_waits_for_others_knows_that_its_link_does_at_least_what_it_did() -> None:
    meter = RateMeter()
    reduce(meter, (0.5, 80, 70), (5.0, 1, 2), backlogged=1 / 3)
    assert meter.rates == Rates(80, 70)
    reduce(meter, (0.5, 90, 70), (5.0, 1, 2), backlogged=1 / 3)
    assert meter.rates == Rates(90, 70)


def test_a_pause_in_sending_is_not_a_slow_link() -> None:
    meter = RateMeter()
    reduce(meter, (3.0, 100, 300), (1.0, 10, 30), (3.0, 100, 300))
    assert meter.rates == Rates(100, 300)


def test_a_connection_that_comes_or_goes_begins_a_new_window() -> None:
    meter = RateMeter()
    meter.read(0.0, Load(0, 0, 2), 1.0)
    meter.read(1.0, Load(500, 500, 3), 1.0)
    meter.read(2.0, Load(600, 700, 3), 1.0)
    meter.pause()
    assert meter.rates == Rates(100, 200)


def test_what_is_too_short_says_nothing() -> None:
    meter = RateMeter()
    for _ in range(10):
        reduce(meter, (0.25, 100, 100))
    assert meter.rates == UNKNOWN


def test_the_beginning_of_a_reduce_does_not_count() -> None:
    meter = RateMeter()
    reduce(meter, (0.5, 1, 1), (2.0, 100, 300))
    assert meter.rates == Rates(100, 300)


def test_the_time_between_reduces_does_not_count() -> None:
    meter = RateMeter()
    meter.read(0.0, Load(0, 0, 1), 1.0)
    meter.pause()
    meter.read(100.0, Load(0, 0, 1), 1.0)
    meter.read(101.0, Load(40, 60, 1), 1.0)
    meter.read(102.0, Load(90, 130, 1), 1.0)
    meter.pause()
    assert meter.rates == Rates(50, 70)


def test_a_link_that_becomes_slow_is_known_as_slow_at_the_end_of_the_reduce() -> None:
    meter = RateMeter()
    reduce(meter, (3.0, 1000, 1000), (5.0, 100, 100))
    assert meter.rates.up == 100


def test_a_link_that_has_become_slow_both_ways_is_known_as_such_soon() -> None:
    meter = RateMeter()
    reduce(meter, (3.0, 1000, 1000))
    for _ in range(4):
        reduce(meter, (2.0, 100, 100))
    assert meter.rates == (pytest.approx(100, rel=0.6), pytest.approx(100, rel=0.6))
