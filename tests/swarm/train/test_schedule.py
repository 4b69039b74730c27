from __future__ import annotations

from itertools import pairwise

import pytest

from swarm.train.schedule import Schedule


def test_rises_in_equal_steps_and_stays() -> None:
    schedule = Schedule(1.0, warmup_steps=4)
    assert [schedule(step) for step in range(7)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0])
    assert schedule(10**9) == 1.0, "without an end there is no decay"


def test_no_warm_up_begins_at_the_peak() -> None:
    assert Schedule(0.3)(0) == 0.3


def test_falls_by_one_minus_the_root_in_the_last_steps_to_nothing() -> None:
    schedule = Schedule(2.0, warmup_steps=2, total_steps=20, decay_steps=8)
    assert [schedule(step) for step in range(2, 13)] == [2.0] * 11
    assert [schedule(step) for step in (14, 20)] == pytest.approx([2.0 * (1 - 0.5), 0.0])
    falling = [schedule(step) for step in range(12, 21)]
    assert all(before > after for before, after in pairwise(falling))
    assert schedule(21) == schedule(1000) == 0.0, "nothing moves after the end"
