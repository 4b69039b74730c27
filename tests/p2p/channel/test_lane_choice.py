"""A frame takes the lane that carries it soonest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.channel.lane_choice import Lane, choose, seconds

MOST = 2_600_000
FAR = 0.15
FRAME = 1_000_000
GROWN, YOUNG, RESTING = Lane(0, MOST, FAR, MOST), Lane(0, 7_000, FAR, MOST), Lane(0, 3_000, FAR, MOST)

LANES = st.builds(
    Lane, st.integers(0, 10**7), st.integers(0, MOST), st.floats(0, 1, allow_subnormal=False), st.just(MOST)
)


def test_a_young_lane_takes_some_round_trips_more() -> None:
    assert seconds(GROWN, FRAME) == pytest.approx(FAR * FRAME / MOST)
    assert 6 * FAR < seconds(YOUNG, FRAME) < 8 * FAR
    assert seconds(Lane(1_300_000, MOST, FAR, MOST), 1_300_000) == pytest.approx(FAR)


@pytest.mark.parametrize("slow", [YOUNG, RESTING])
def test_nothing_goes_by_a_young_lane_while_another_carries_it_sooner(slow: Lane) -> None:
    assert choose([slow, GROWN._replace(outstanding=10 * FRAME)], FRAME) == 1
    assert choose([GROWN._replace(outstanding=100 * FRAME), slow], FRAME) == 1, "such a queue is slower still"


def test_grown_lanes_take_turns() -> None:
    assert choose([GROWN._replace(outstanding=1), GROWN], FRAME) == 1
    assert choose([GROWN, GROWN._replace(outstanding=1)], FRAME) == 0


def test_without_measurements_the_least_outstanding_counts() -> None:
    assert choose([Lane(size, 0, 0.0, 0) for size in (5, 3, 4)], FRAME) == 1


@given(st.lists(LANES, min_size=1, max_size=8), st.integers(1, 10**7))
def test_no_lane_would_have_been_sooner(lanes: list[Lane], size: int) -> None:
    chosen = choose(lanes, size)
    assert seconds(lanes[chosen], size) == min(seconds(lane, size) for lane in lanes)


@given(LANES, st.integers(1, 10**6), st.integers(0, 10**6))
def test_more_takes_no_less_time(lane: Lane, size: int, more: int) -> None:
    assert seconds(lane, size) <= seconds(lane, size + more) * (1 + 1e-9)
