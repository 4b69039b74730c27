"""Patience is bounded, in share and at a time, whatever one waits for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.patience import LOOK_SECONDS, Patience


def test_one_waits_until_the_seconds_are_used_up_and_again_when_they_have_come_back() -> None:
    patience = Patience(0.1, 2.0)
    now = 100.0
    while patience.waits(True, now):
        now += 0.1
    assert now == pytest.approx(102.2, abs=0.15), "and what came back meanwhile"
    assert not patience.waits(False, now + 10.0)
    assert patience.waits(True, now + 10.0)
    assert patience.waits(True, now + 10.5)
    assert not patience.waits(True, now + 11.2)


def test_a_long_silence_was_no_waiting() -> None:
    patience = Patience(0.01, 2.0)
    assert patience.waits(True, 0.0)
    assert patience.waits(True, 1000.0), "as when somebody else was to decide meanwhile"


@given(
    st.lists(st.tuples(st.floats(0.01, LOOK_SECONDS), st.booleans()), min_size=1, max_size=300),
    st.floats(0.01, 0.5),
    st.floats(0.1, 10.0),
)
def test_the_wait_is_bounded(steps: list[tuple[float, bool]], share: float, most: float) -> None:
    patience, now, waited, waiting = Patience(share, most), 50.0, 0.0, False
    for seconds, wanted in steps:
        now += seconds
        waited += seconds if waiting else 0.0
        waiting = patience.waits(wanted, now)
        assert not waiting or wanted
        assert waited <= most + share * (now - 50.0) + LOOK_SECONDS
