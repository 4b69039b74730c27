"""However many knock: what is told stays bounded, and says how much is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarm.events.flood import MOST_A_MINUTE, MOST_KNOWN, REPEAT_SECONDS, RefusalFlood


def test_the_first_refusal_is_told_and_its_repeats_are_counted() -> None:
    flood = RefusalFlood()
    assert flood.times("192.0.2.1:4000", "no TLS", 0.0) == 1
    assert flood.times("192.0.2.1:4001", "no TLS", 1.0) == 0
    assert flood.times("192.0.2.1:4002", "another run", 1.0) == 1
    assert flood.times("192.0.2.2:4000", "no TLS", 1.0) == 1
    assert flood.times("192.0.2.1:4003", "no TLS", 1.0 + REPEAT_SECONDS) == 2
    assert flood.untold == 0


def test_many_different_ones_are_told_at_a_bounded_rate() -> None:
    flood = RefusalFlood()
    told = sum(flood.times(f"peer{number}", "another run", number / 100) for number in range(12_000))
    assert told <= MOST_A_MINUTE * 3
    assert told + flood.untold == 12_000
    assert len(flood._known) <= MOST_KNOWN


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 50)), max_size=200))
def test_every_refusal_is_told_or_counted(knocks: list[tuple[str, float]]) -> None:
    flood, now, told, knocked = RefusalFlood(), 0.0, 0, 0
    for who, pause in knocks:
        now += pause
        knocked += 1
        told += flood.times(who, "x", now)
    waiting = sum(known.untold for known in flood._known.values())
    assert told + flood.untold + waiting == knocked
