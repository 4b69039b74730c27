"""When links get another lane."""

import pytest

from p2p.channel.widening import MOST_LANES, NO_FLOW, WINDOW_SECONDS, Flow, Widening

LANE_BYTES = 2_500_000


def flow(delivered: float, received: float = 0, lanes: int = 1, round_trip: float = 0.15) -> Flow:
    return Flow(int(delivered), int(received), round_trip, lanes)


FAST = 1.1 * LANE_BYTES / 0.15
"""Bytes a second that are more than one connection can have under way on a long path."""


@pytest.mark.parametrize("sending", [True, False])
def test_a_lane_that_carries_as_much_as_a_connection_can_is_full(sending: bool) -> None:
    widening = Widening(lambda _round_trip: LANE_BYTES)
    assert not widening.read(10.0, flow(500, 500))
    carried = (500 + FAST, 500) if sending else (500, 500 + FAST)
    assert widening.read(11.0, flow(*carried))


def test_two_lanes_carry_more_before_they_are_full() -> None:
    widening = Widening(lambda _round_trip: LANE_BYTES)
    widening.read(10.0, flow(0, lanes=2))
    assert not widening.read(11.0, flow(FAST, lanes=2))
    assert widening.read(12.0, flow(3 * FAST, lanes=2))


def test_a_short_path_is_not_full_at_the_same_rate() -> None:
    widening = Widening(lambda _round_trip: LANE_BYTES)
    widening.read(10.0, flow(0, round_trip=0.03))
    assert not widening.read(11.0, flow(FAST, round_trip=0.03))


def test_a_moment_says_nothing_and_does_not_count_twice() -> None:
    widening = Widening(lambda _round_trip: LANE_BYTES)
    widening.read(10.0, flow(0))
    assert not widening.read(10.0 + WINDOW_SECONDS / 2, flow(FAST))
    assert widening.read(11.0, flow(FAST))
    assert not widening.read(12.0, flow(FAST))


def test_another_lane_begins_another_window() -> None:
    widening = Widening(lambda _round_trip: LANE_BYTES)
    widening.read(10.0, flow(0))
    assert not widening.read(11.0, flow(9 * FAST, lanes=2))
    assert widening.read(12.0, flow(12 * FAST, lanes=2))


def test_there_are_never_more_than_the_most() -> None:
    widening = Widening(lambda _round_trip: LANE_BYTES)
    widening.read(10.0, flow(0, lanes=MOST_LANES))
    assert not widening.read(11.0, flow(100 * FAST, lanes=MOST_LANES))


def test_where_the_kernel_says_nothing_no_lane_is_full() -> None:
    widening = Widening(lambda _round_trip: LANE_BYTES)
    for second in range(5):
        assert not widening.read(float(second), NO_FLOW)


def test_the_flows_of_two_lanes_add_up() -> None:
    both = Flow(1, 20, 0.2, 1, 0.05, 7).beside(Flow(3, 40, 0.1, 1, 0.01, 8))
    assert both == Flow(4, 60, 0.1, 2, 0.01, 15)
