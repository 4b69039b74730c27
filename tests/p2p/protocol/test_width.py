"""How many are served at a time: few where they share the donor's link, many where their own links are slow."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.width import REST, Width

MIB = 1 << 20
PER_PEER = 2


def drive(width: Width, rate: Callable[[int], float], seconds: float, now: float = 0.0) -> dict[int, float]:
    """Serve for so long; `rate`: bytes a second that leave for so many. Seconds for which each number was served."""
    spent: dict[int, float] = {}
    end = now + seconds
    while now < end:
        served, slots = width.served, PER_PEER * width.served
        width.full(now)
        for _ in range(slots):
            step = MIB / rate(served)
            now += step
            spent[served] = spent.get(served, 0.0) + step
            width.gave(MIB, slots, now)
    return spent


@given(st.floats(0.01, 1000.0))
def test_those_who_share_a_link_are_served_one_after_the_other(speed: float) -> None:
    spent = drive(Width(4), lambda served: speed * MIB, 1000 / speed)
    assert set(spent) <= {1, 2}
    assert spent[1] >= 0.8 * sum(spent.values()), "trials cost a little"


@pytest.mark.parametrize("own", [0.1, 0.25, 0.35, 0.5])
def test_those_whose_own_links_are_slow_fill_the_donors_together(own: float) -> None:
    """Each takes that share of the donor's link."""
    width, most = Width(4), min(1.0, 4 * own)
    drive(width, lambda served: min(1.0, served * own) * 10 * MIB, 20)
    spent = drive(width, lambda served: min(1.0, served * own) * 10 * MIB, 100, now=20.0)
    used = sum(min(1.0, served * own) * seconds for served, seconds in spent.items()) / sum(spent.values())
    assert used >= 0.85 * most


def test_when_the_slow_have_gone_fewer_are_served_again() -> None:
    width = Width(4)
    drive(width, lambda served: served * MIB, 30)
    assert width.served >= 3
    spent = drive(width, lambda served: 4 * MIB, 100, now=30.0)
    assert spent[1] >= 0.7 * sum(spent.values())


def test_one_slow_newcomer_does_not_keep_the_rest_waiting() -> None:
    """It takes a hundredth of the link: somebody else is served, too, after its first two answers."""
    width = Width(4)
    width.full(0.0)
    width.gave(MIB, PER_PEER, 100.0)
    assert width.served == 1
    width.gave(MIB, PER_PEER, 100.0)
    assert width.served == 2


def test_what_was_sent_while_there_was_little_to_do_says_nothing() -> None:
    width = Width(4)
    width.full(0.0)
    width.gave(MIB, PER_PEER, 1.0)
    width.void()
    width.gave(MIB, PER_PEER, 2.0)
    assert width.served == 1
    width.full(2.0)
    width.gave(0, PER_PEER, 2.0)
    width.gave(0, PER_PEER, 2.0)
    assert width.served == 1, "no time has passed: refusals"
    width.gave(MIB, PER_PEER, 3.0)
    assert width.served == 2


def test_a_trial_that_failed_is_not_repeated_at_once() -> None:
    width, now, trials = Width(4), 0.0, []
    for _ in range(200):
        slots, before = PER_PEER * width.served, width.served
        width.full(now)
        for _ in range(slots):
            now += 1.0
            width.gave(MIB, slots, now)
        if before == 1 and width.served == 2:
            trials.append(now)
    assert all(later - earlier > REST * 4 for earlier, later in itertools.pairwise(trials))
    assert len(trials) >= 5, "but it is repeated: newcomers change"


@given(most=st.integers(1, 5), rates=st.lists(st.floats(1, 1e9), min_size=1, max_size=200))
def test_somebody_is_always_served_and_never_too_many(most: int, rates: list[float]) -> None:
    width, now = Width(most), 0.0
    for rate in rates:
        slots = PER_PEER * width.served
        width.full(now)
        for _ in range(slots):
            now += MIB / rate
            width.gave(MIB, slots, now)
        assert 1 <= width.served <= most
