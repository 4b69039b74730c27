"""The donor's desk: bounded, fair, and within its rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.messages import GetChunk
from p2p.protocol.serving import Desk, DeskLimits, TokenBucket
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


def test_peers_take_turns() -> None:
    desk = Desk(DeskLimits(answers_per_peer=10, answers=100))
    for number in range(6):
        assert desk.offer(peer(0), question(number), 1)
    for number in range(2):
        assert desk.offer(peer(1), question(number), 1)
    served = []
    while (job := desk.take(0.0)) is not None:
        served.append(job[0])
    assert served == [peer(i) for i in (0, 1, 0, 1, 0, 0, 0, 0)]


def test_bounds_for_one_peer_and_in_all() -> None:
    desk = Desk(DeskLimits(queued_per_peer=3, answers_per_peer=2, answers=3))
    assert [desk.offer(peer(0), question(n), 1) for n in range(4)] == [True, True, True, False]
    assert desk.offer(peer(1), question(0), 1)
    assert desk.offer(peer(1), question(1), 1)
    taken = [desk.take(0.0) for _ in range(4)]
    assert [job[0] if job else None for job in taken] == [peer(0), peer(1), peer(0), None]
    assert desk.delay(0.0) is None, "time alone changes nothing"
    desk.finished(peer(1))
    assert desk.take(0.0) == (peer(1), question(1))
    desk.finished(peer(0))
    assert desk.take(0.0) == (peer(0), question(2))
    assert desk.take(0.0) is None


def test_answers_wait_for_the_rate() -> None:
    desk = Desk(DeskLimits(bytes_per_second=100.0, burst_bytes=50.0))
    for number in range(3):
        desk.offer(peer(0), question(number), 150)
    assert desk.take(0.0) is not None
    assert desk.take(0.0) is None
    delay = desk.delay(0.0)
    assert delay == pytest.approx(1.0, abs=0.01)
    assert desk.take(delay) is not None


def test_who_would_wait_too_long_is_told_to_come_later() -> None:
    desk = Desk(DeskLimits(bytes_per_second=1.0, burst_bytes=1.0, wait_seconds=30.0))
    assert not desk.crowded(peer(0), 1000), "nobody else is there"
    for index in range(4):
        assert not desk.crowded(peer(index), 10)
        desk.offer(peer(index), question(0), 10)
    assert desk.crowded(peer(4), 10), "four answers of 10 s each come first"
    assert not desk.crowded(peer(3), 10), "it is being served"
    assert not desk.crowded(peer(4), 7)
    assert not Desk(DeskLimits()).crowded(peer(0), 1 << 40), "no rate, no wait"


def test_who_is_gone_is_forgotten() -> None:
    desk = Desk(DeskLimits())
    desk.offer(peer(0), question(0), 1)
    desk.offer(peer(0), question(1), 1)
    assert desk.take(0.0) is not None
    desk.forget(peer(0))
    desk.forget(peer(1))
    assert desk.take(0.0) is None
    desk.finished(peer(0))
    assert desk.delay(0.0) is None
    assert not desk._customers
