"""The donor's desk: bounded, within its rate, and soon not alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.messages import GetRecords
from p2p.protocol.serving import Desk, DeskLimits, Question, TokenBucket
from p2p.protocol.transfer_messages import GetChunk
from tests.p2p.protocol.records import peer

MIB = 1 << 20


def question(number: int) -> GetChunk:
    return GetChunk(request=number, index=0)


def test_no_rate_is_no_limit() -> None:
    bucket = TokenBucket(None, 1.0)
    bucket.spend(1 << 40)
    assert bucket.delay(0.0) == 0.0


@given(
    sizes=st.lists(st.integers(1, 16 * MIB), min_size=1, max_size=50),
    rate=st.integers(1000, 100 * MIB),
    idle=st.lists(st.floats(0, 10), min_size=50, max_size=50),
)
def test_the_rate_holds_over_any_stretch(sizes: list[int], rate: int, idle: list[float]) -> None:
    """Sent in t seconds: at most the burst, the rate's share of t, and one answer that leaves the debt."""
    bucket, now, sent = TokenBucket(rate, MIB), 0.0, 0
    for size, pause in zip(sizes, idle, strict=False):
        now += pause
        now += bucket.delay(now)
        assert bucket.delay(now) <= 1e-5
        assert sent <= MIB + rate * now + 1e-3 * rate
        bucket.spend(size)
        sent += size


def test_a_clock_that_stands_still_gives_nothing() -> None:
    bucket = TokenBucket(100.0, 100.0)
    bucket.spend(300)
    assert bucket.delay(0.0) == pytest.approx(2.0, abs=0.01)
    assert bucket.delay(0.0) == pytest.approx(2.0, abs=0.01)
    assert bucket.delay(1.0) == pytest.approx(1.0, abs=0.01)
    assert bucket.delay(3.0) == 0.0


def served(desk: Desk, now: float = 0.0) -> list[str]:
    """Who gets what is free now, in order."""
    return [name for name, _ in taken(desk, now)]


def taken(desk: Desk, now: float = 0.0) -> list[tuple[str, Question]]:
    jobs = []
    while (job := desk.take(now)) is not None:
        jobs.append(job)
    return jobs


def serve(desk: Desk, now: float = 0.0) -> list[str]:
    """Give what is free now, at once; who got it."""
    jobs = taken(desk, now)
    for name, message in jobs:
        desk.finished(name, message, 1, now)
    return [name for name, _ in jobs]


def test_whoever_has_got_most_of_the_state_is_served_first() -> None:
    desk = Desk(DeskLimits(answers_per_peer=1, answers=1), state_bytes=3)
    for number in range(3):
        for index in range(3):
            assert desk.offer(peer(index), question(number), 1, 0.0)
    order = [one for _ in range(9) for one in serve(desk)]
    assert order == [peer(i) for i in (0, 0, 0, 1, 1, 1, 2, 2, 2)]


def test_who_takes_more_than_two_states_comes_last() -> None:
    """Rounds that commit meanwhile cost a newcomer as much again; but no fetch without an end is before all others."""
    desk = Desk(DeskLimits(answers_per_peer=1, answers=1), state_bytes=2)
    for number in range(6):
        assert desk.offer(peer(0), question(number), 1, 0.0)
    assert desk.offer(peer(1), question(0), 1, 0.0)
    order = [one for _ in range(7) for one in serve(desk)]
    assert order == [peer(i) for i in (0, 0, 0, 0, 1, 0, 0)]
    for number in range(2):
        assert desk.offer(peer(0), question(number), 1, 0.0)
        assert desk.offer(peer(1), question(number), 1, 0.0)
    assert served(desk) == [peer(0)], "nobody waited any more: all are equal again"


def test_as_few_are_served_at_a_time_as_fill_the_link() -> None:
    """One newcomer's answers take as long as its own link makes them; a second one is served as soon as that shows."""
    desk = Desk(DeskLimits(answers_per_peer=2, answers=16), state_bytes=100)
    for index in range(3):
        for number in range(4):
            assert desk.offer(peer(index), question(number), 1, 0.0)
    first = taken(desk)
    assert [name for name, _ in first] == [peer(0), peer(0)]
    desk.finished(*first[0], 1, 100.0)
    assert served(desk, 100.0) == [peer(0)], "still the one"
    desk.finished(*first[1], 1, 100.0)
    assert served(desk, 100.0) == [peer(0), peer(1), peer(1)]


def test_records_come_first_and_wait_for_no_chunk() -> None:
    """A chunk whose round is not in the records cannot be believed."""
    desk = Desk(DeskLimits(answers_per_peer=1, answers=1), state_bytes=100)
    assert desk.offer(peer(0), question(0), 1, 0.0)
    assert served(desk) == [peer(0)]
    records = GetRecords(start=0, limit=1)
    for index in (1, 1, 0):
        assert desk.offer(peer(index), records, 1, 0.0)
    assert taken(desk) == [(peer(0), records), (peer(1), records)], "one at a time for each"
    assert desk.delay(0.0) is None
    desk.finished(peer(1), records, 0, 0.0)
    assert desk.delay(0.0) == 0.0
    assert taken(desk) == [(peer(1), records)]
    for index in (1, 0):
        desk.finished(peer(index), records, 0, 0.0)
    desk.finished(peer(0), question(0), 1, 0.0)
    assert not desk._customers


def test_what_is_not_wanted_any_more_is_not_answered() -> None:
    desk = Desk(DeskLimits(answers_per_peer=1, answers=1), state_bytes=10)
    for number in range(3):
        assert desk.offer(peer(0), question(number), 1, 0.0)
    assert desk.take(0.0) == (peer(0), question(0))
    desk.withdraw(peer(0), 1)
    desk.withdraw(peer(0), 0)
    desk.withdraw(peer(1), 2)
    desk.finished(peer(0), question(0), 1, 0.0)
    assert desk.take(0.0) == (peer(0), question(2)), "another's word counts for nothing"
    desk.finished(peer(0), question(2), 1, 0.0)
    assert desk.offer(peer(0), question(3), 1, 0.0)
    desk.withdraw(peer(0), 3)
    assert not desk._customers


def test_who_has_waited_too_long_is_told_so_and_not_answered_later() -> None:
    desk = Desk(DeskLimits(answers_per_peer=1, answers=1, wait_seconds=60.0), state_bytes=10)
    assert desk.offer(peer(0), question(0), 1, 0.0)
    assert served(desk) == [peer(0)]
    assert desk.offer(peer(1), question(0), 1, 0.0)
    assert desk.offer(peer(1), question(1), 1, 30.0)
    assert desk.overdue(60.0) == []
    assert desk.overdue(61.0) == [(peer(1), question(0))]
    desk.finished(peer(0), question(0), 1, 61.0)
    assert desk.take(61.0) == (peer(1), question(1))
    desk.finished(peer(1), question(1), 1, 61.0)
    assert desk.take(61.0) is None


def test_bounds_for_one_peer_and_in_all() -> None:
    desk = Desk(DeskLimits(queued_per_peer=3, answers_per_peer=2, answers=3), 1000)
    assert [desk.offer(peer(0), question(n), 1, 0.0) for n in range(4)] == [True, True, True, False]
    assert desk.offer(peer(1), question(0), 1, 0.0)
    assert desk.offer(peer(1), question(1), 1, 0.0)
    assert served(desk) == [peer(0)] * 2
    assert desk.delay(0.0) is None, "time alone changes nothing"
    desk.finished(peer(0), question(0), 1, 1.0)
    assert served(desk, 1.0) == [peer(0)]
    desk.finished(peer(0), question(1), 1, 1.0)
    assert served(desk, 1.0) == [peer(1)] * 2, "two at a time, but three answers"


def test_answers_wait_for_the_rate() -> None:
    desk = Desk(DeskLimits(bytes_per_second=100.0, burst_bytes=50.0), 1000)
    for number in range(3):
        desk.offer(peer(0), question(number), 150, 0.0)
    assert desk.take(0.0) is not None
    assert desk.take(0.0) is None
    delay = desk.delay(0.0)
    assert delay == pytest.approx(1.0, abs=0.01)
    assert desk.take(delay) is not None


def test_records_cost_of_the_rate_too() -> None:
    desk = Desk(DeskLimits(bytes_per_second=100.0, burst_bytes=50.0), 1000)
    for index in range(2):
        desk.offer(peer(index), GetRecords(start=0, limit=1), 150, 0.0)
    assert served(desk) == [peer(0)]
    assert desk.delay(0.0) == pytest.approx(1.0, abs=0.01)
    assert served(desk, 1.1) == [peer(1)]


def test_who_would_wait_too_long_is_told_to_come_later() -> None:
    desk = Desk(DeskLimits(bytes_per_second=1.0, burst_bytes=1.0, wait_seconds=30.0), 1000)
    assert not desk.crowded(peer(0), 1000), "nobody else is there"
    for index in range(4):
        assert not desk.crowded(peer(index), 10)
        desk.offer(peer(index), question(0), 10, 0.0)
    assert desk.crowded(peer(4), 10), "four answers of 10 s each come first"
    assert not desk.crowded(peer(3), 10), "it is being served"
    assert not desk.crowded(peer(4), 7)
    assert not Desk(DeskLimits(), 1000).crowded(peer(0), 1 << 40), "no rate, no wait"


def test_who_is_gone_is_forgotten() -> None:
    desk = Desk(DeskLimits(), 1000)
    desk.offer(peer(0), question(0), 1, 0.0)
    desk.offer(peer(0), question(1), 1, 0.0)
    assert desk.take(0.0) is not None
    desk.forget(peer(0))
    desk.forget(peer(1))
    assert desk.take(0.0) is None
    desk.finished(peer(0), question(0), 1, 0.0)
    assert desk.delay(0.0) is None
    assert not desk._customers
