from __future__ import annotations

import pytest

from swarm.train.schedule import warmed_up


def test_rises_in_equal_steps_and_stays() -> None:
    rates = [warmed_up(step, 4, 1.0) for step in range(7)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0])


def test_no_warm_up_begins_at_the_peak() -> None:
    assert warmed_up(0, 0, 0.3) == 0.3
