"""What is known of donors: their speed, their silence, their record."""

from __future__ import annotations

import random

import pytest

from p2p.protocol.donors import LIAR_SECONDS, MOST_REQUESTS, PATIENCE_SECONDS, Donor, DonorPool, Request
from p2p.protocol.transfer_messages import GetChunk, GetManifest

MIB = 1 << 20


def request(number: int, size: int = MIB, at: float = 0.0, peer: str = "a") -> Request:
    return Request(number, peer, GetChunk(request=number, index=number), number, -1, size, at)


def pool(*peers: str, height: int = 3) -> DonorPool:
    found = DonorPool(random.Random(1))
    found.see(dict.fromkeys(peers, height), -1)
    return found


def test_the_rate_counts_only_the_time_that_it_was_asked() -> None:
    donor = Donor("a")
    assert donor.rate is None
    for number in range(5):
        start = 100.0 * number
        donor.asked(request(number, at=start))
        assert donor.answered(number, start + 2.0) is not None
    assert donor.rate == pytest.approx(MIB / 2, rel=0.01)
    assert donor.answered(9, 1000.0) is None


def test_the_rate_follows_changes() -> None:
    donor = Donor("a")
    for number in range(60):
        now = float(number if number < 30 else 30 + (number - 30) * 4)
        donor.asked(request(number, at=now))
        donor.answered(number, now + (1.0 if number < 30 else 4.0))
    assert donor.rate == pytest.approx(MIB / 4, rel=0.1)


def test_silence_counts_from_the_last_sign_of_life_while_something_is_owed() -> None:
    donor = Donor("a")
    assert donor.silent_for(1e9) is None, "nobody asked"
    donor.asked(request(0, at=10.0))
    assert donor.silent_for(10.0 + PATIENCE_SECONDS) is None
    assert donor.silent_for(11.0 + PATIENCE_SECONDS) == PATIENCE_SECONDS + 1
    donor.moved(100.0)
    assert donor.silent_for(99.0 + PATIENCE_SECONDS) is None, "bytes came"
    donor.answered(0, 110.0)
    assert donor.silent_for(1e9) is None


def test_a_donor_is_asked_ahead_for_what_it_gives_in_some_seconds() -> None:
    donor = Donor("a")
    assert donor.window(MIB) == 0, "its speed is not known: one answer at a time"
    donor.asked(request(0))
    donor.answered(0, 10.0)
    assert donor.window(MIB) == 2 * MIB, "slow: one on its way, one waiting at its desk"
    donor.asked(request(1, at=10.0))
    donor.answered(1, 10.0)
    for number in range(2, 40):
        donor.asked(request(number, at=10.0))
        donor.answered(number, 10.01)
    assert donor.window(MIB) > 100 * MIB


def test_failures_in_a_row_double_the_pause() -> None:
    donors = pool("a")
    donor = donors.all()[0]
    donor.asked(request(1))
    assert [void.id for void in donors.strike(donor, 10.0)] == [1]
    assert donor.outstanding_bytes == 0
    assert donor.until == 11.0
    donors.strike(donor, 11.0)
    assert donor.until == 13.0
    assert not donor.usable(12.9)
    assert donor.usable(13.0)
    donor.asked(request(2, at=13.0))
    donor.answered(2, 13.5)
    donors.strike(donor, 20.0)
    assert donor.until == 21.0, "an answer wipes the slate"


def test_a_lie_costs_long_and_is_counted_once() -> None:
    donors = pool("a")
    assert donors.punish("a", 0.0) == []
    assert donors.punish("a", 1.0) is None
    assert donors.usable(LIAR_SECONDS - 1) == []
    assert donors.punish("a", LIAR_SECONDS) == []
    assert donors.usable(2 * LIAR_SECONDS) == []
    assert donors.punish("stranger", 0.0) == []
    assert [donor.peer for donor in donors.usable(1e9)] == ["a"], "a stranger is no source"


def test_a_busy_donor_is_asked_for_as_much_as_it_takes() -> None:
    donors = pool("a")
    donor = donors.all()[0]
    assert donor.most == MOST_REQUESTS
    for number in range(5):
        donor.asked(request(number))
    donor.cancelled(4)
    donors.slow_down(donor, 0.0)
    assert (donor.most, donor.usable(0.0)) == (4, True)
    for number in range(4):
        donor.answered(number, 1.0)
    for number in range(8, 24):
        donor.asked(request(number))
        donor.answered(number, 2.0)
    assert donor.most == 6
    donors.slow_down(donor, 3.0)
    assert (donor.most, donor.usable(3.0)) == (1, False)


def test_refusals() -> None:
    donors = pool("a", "b")
    assert not donors.all_refused("mean", 3, 0.0)
    donors.refuse("a", "mean", 3, 0.0)
    assert donors.refused("a", "mean", 3)
    assert not donors.refused("a", "mean", 3, since=0.0)
    assert not donors.refused("a", "manifest", 3)
    assert not donors.all_refused("mean", 3, 0.0)
    donors.refuse("b", "mean", 3, 0.0)
    assert donors.all_refused("mean", 3, 0.0)
    assert not donors.all_refused("mean", 4, 0.0), "nobody has reached it"
    donors.see({"a": 9}, oldest=4)
    assert not donors.refused("a", "mean", 3), "forgotten with the round"
    assert [donor.present for donor in donors.all()] == [donor.peer == "a" for donor in donors.all()]


def test_the_quickest_is_who_would_deliver_first() -> None:
    donors = pool("a", "b")
    a, b = donors.all()
    assert donors.quickest([a, b], MIB) is a, "the pool's own order"
    a.asked(request(1))
    assert donors.quickest([a, b], MIB) is b
    a.answered(1, 0.01)
    b.asked(request(2))
    b.answered(2, 10.0)
    a.asked(request(3, size=5 * MIB))
    assert donors.quickest([a, b], MIB) is a, "busy, but fast"
    assert donors.outstanding_bytes() == 5 * MIB


def test_requests_for_a_manifest() -> None:
    donors = pool("a")
    asked = Request(1, "a", GetManifest(request=1, round=2), -1, 2, 32, 0.0)
    donors.all()[0].asked(asked)
    donors.all()[0].asked(request(2))
    assert donors.asked_for_manifest(2) == [asked]
    assert donors.asked_for_manifest(1) == []
    assert donors.get("b") is None
