"""The clock that members of a DHT share."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from p2p.discovery import dht_clock


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dht_clock.offset()
    monkeypatch.setattr(dht_clock, "_agreed", False)
    yield
    dht_clock.set_offset(before)


def test_the_first_member_goes_by_its_wall_clock() -> None:
    assert abs(dht_clock.dht_time() - time.time()) < 2
    assert not dht_clock.agreed()


def test_whoever_joins_takes_over_the_first_time_that_it_hears_and_no_other() -> None:
    assert dht_clock.agree(-250.0)
    assert dht_clock.agreed()
    assert not dht_clock.agree(9999.0)
    assert abs(dht_clock.dht_time() - time.time() + 250.0) < 2


def test_a_wall_clock_that_is_put_right_later_does_not_move_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dht_clock.dht_time()
    monkeypatch.setattr(time, "time", lambda: 12.0)
    assert 0 <= dht_clock.dht_time() - before < 2


def test_processes_of_a_machine_share_it_by_its_offset() -> None:
    dht_clock.agree(1000.0)
    shared = dht_clock.offset()
    dht_clock.set_offset(0.0)
    dht_clock.set_offset(shared)
    assert abs(dht_clock.dht_time() - time.time() - 1000.0) < 2
