"""What a node says of its link is what its link does."""

from __future__ import annotations

import pytest

from p2p.channel.meter import Load
from p2p.protocol.shares import UNKNOWN, Rates
from p2p.reduce.rate_meter import RateMeter


def reduce(meter: RateMeter, *stages: tuple[float, float, float], backlogged: float = 1.0, light: bool = False) -> None:
    """A reduce of stages (seconds, up, down), read every quarter of a second; `backlogged`: share of the others for
    whom there is something to send."""
    at = sent = received = 0.0
    meter.read(at, Load(0, 0, 3), backlogged, light)
    for seconds, up, down in stages:
        for _ in range(int(seconds * 4)):
            at, sent, received = at + 0.25, sent + up / 4, received + down / 4
            meter.read(at, Load(int(sent), int(received), 3), backlogged, light)
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
    for second in range(2, 5):
        meter.read(second, Load(400 + 100 * second, 300 + 200 * second, 3), 1.0)
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
    meter.read(103.0, Load(140, 200, 1), 1.0)
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


def test_nothing_is_said_before_it_has_been_seen_a_few_times() -> None:
    meter = RateMeter()
    for _ in range(2):
        reduce(meter, (0.5, 20, 20))
        assert meter.rates == UNKNOWN
    reduce(meter, (0.5, 100, 300))
    assert meter.rates == Rates(100, pytest.approx(300, rel=0.6))


def test_one_bad_moment_of_a_short_reduce_is_not_a_slow_link() -> None:
    meter = RateMeter()
    for _ in range(5):
        reduce(meter, (0.5, 100, 300))
    reduce(meter, (0.5, 20, 60))
    assert meter.rates == Rates(100, pytest.approx(300, rel=0.1))


def test_who_has_little_to_carry_does_not_take_itself_for_slow() -> None:
    meter = RateMeter()
    reduce(meter, (3.0, 100, 300))
    reduce(meter, (9.0, 10, 30), light=True)
    assert meter.rates.up > 100
    assert meter.rates.down > 300
    reduce(meter, (3.0, 900, 1000), light=True)
    assert meter.rates.up > 900, "what it did it can do"


def test_a_slow_link_that_is_spared_is_tried_again_after_a_while_and_found_slow() -> None:
    meter = RateMeter()
    reduce(meter, (5.0, 10, 10))
    rounds = 0
    while meter.rates.up < 80:
        reduce(meter, (5.0, 10, 10), light=True)
        rounds += 1
    assert 15 < rounds < 30, "it is not tried often"
    reduce(meter, (5.0, 10, 10))
    reduce(meter, (5.0, 10, 10))
    assert meter.rates.up == 10
    assert meter.rates.down < 40


def test_a_link_that_is_much_slower_is_not_tried_again() -> None:
    meter = RateMeter()
    reduce(meter, (5.0, 100, 100))
    for _ in range(100):
        reduce(meter, (5.0, 100, 100), light=True)
    assert meter.rates.up <= 1000


def test_between_reduces_nobody_takes_itself_for_faster() -> None:
    meter = RateMeter()
    reduce(meter, (3.0, 100, 300))
    reduce(meter, (3.0, 10, 30), light=True)
    once = meter.rates
    for _ in range(10):
        meter.pause()
    assert meter.rates == once
