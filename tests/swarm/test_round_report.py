"""Reports of rounds: nobody waits for them but who wants the next one, and none gets lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from ops.codec import get_codec
from ops.encoded import Encoded
from p2p.outcome import Committed
from p2p.protocol.chain import Tip
from p2p.protocol.fragments import Fragments
from p2p.transfer.state import StateDigests
from swarm import events
from swarm.config import Config, NodeConfig, RunConfig
from swarm.inner_training import Work
from swarm.parts import Parts
from swarm.round_report import RoundReports
from tests.p2p.protocol.records import FINGERPRINT, next_record, peer, signed

COUNT = 4096
FP32 = get_codec("fp32")
OWN_P = np.random.default_rng(1).standard_normal(COUNT, np.float32)
WORK = Work(100, (), lambda start, stop, out: None, None)


class Written:
    """An event log, and a tracker of rounds."""

    def __init__(self) -> None:
        self.events: list[events.Round] = []
        self.tracked: list[events.Round] = []

    def write(self, event: events.Round) -> None:
        self.events.append(event)

    def round(self, event: events.Round) -> None:
        self.tracked.append(event)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
def wire() -> SimpleNamespace:
    """Bytes so far."""
    return SimpleNamespace(sent=1000, received=2000)


@pytest.fixture
def reports(pool: ThreadPoolExecutor, written: Written, wire: SimpleNamespace) -> RoundReports:
    parts: Any = SimpleNamespace(
        codec=FP32,
        feedback=None,
        state=SimpleNamespace(fragments=Fragments.whole(COUNT), theta_P=np.zeros(COUNT, np.float32)),
        trainer=SimpleNamespace(vectors=SimpleNamespace(local_P=-OWN_P)),
        member=SimpleNamespace(me=peer(0), head=SimpleNamespace(hash=b"\xaa" * 32)),
        mesh=SimpleNamespace(wire_bytes=lambda: SimpleNamespace(**vars(wire))),
        transfer=SimpleNamespace(bytes_sent=0),
        tracking=written,
        pool=pool,
    )
    config = Config(run=RunConfig(), node=NodeConfig(name="ours"))
    return RoundReports(config, cast(Parts, parts), cast(events.EventLog, written))


def outcome() -> Committed:
    mean = Encoded.allocate(FP32, COUNT)
    FP32.quantise(OWN_P, mean)
    state = StateDigests(0, (), bytes(32), b"\x01" * 32, b"\x02" * 32)
    return Committed(signed(next_record(Tip.genesis(FINGERPRINT))), state, mean, 2.5)


@pytest.fixture
def busy(pool: ThreadPoolExecutor) -> Iterator[Callable[[], None]]:
    """A pool that has other work until this is called."""
    done = Event()
    pool.submit(done.wait)
    yield done.set
    done.set()


async def test_a_report_tells_the_round_and_how_healthy_it_was(reports: RoundReports, written: Written) -> None:
    reports.contributed(0)
    reports.begin(outcome(), WORK)
    await reports.written()
    (event,) = written.events
    assert written.tracked == [event]
    assert (event.node, event.tokens, event.reduce_seconds, event.record) == ("ours", 100, 2.5, "aa" * 32)
    assert (event.theta_digest, event.momentum_digest) == ("01" * 32, "02" * 32)
    assert event.agreement == pytest.approx(1.0)
    assert event.codec_error == 0.0


async def test_who_begins_a_report_goes_on_at_once(
    reports: RoundReports, written: Written, busy: Callable[[], None]
) -> None:
    reports.contributed(0)
    reports.begin(outcome(), WORK)
    waiting = asyncio.create_task(reports.written())
    done, _ = await asyncio.wait({waiting}, timeout=0)
    assert not done
    assert not written.events
    assert reports.under_way
    busy()
    await waiting
    assert not reports.under_way
    assert [event.round for event in written.events] == [0]


async def test_a_report_outlives_who_waits_for_it(
    reports: RoundReports, written: Written, busy: Callable[[], None]
) -> None:
    """A node that is told to stop has its last round reported all the same."""
    reports.begin(outcome(), WORK)
    waiting = asyncio.create_task(reports.written())
    await asyncio.wait({waiting}, timeout=0)
    waiting.cancel()
    await asyncio.wait({waiting})
    busy()
    await reports.written()
    assert len(written.events) == 1


async def test_a_round_whose_health_cannot_be_told_is_reported_and_the_reason_is_not_swallowed(
    reports: RoundReports, written: Written
) -> None:
    reports.begin(Committed(outcome().signed, outcome().state, cast(Encoded, "no mean"), 2.5), WORK)
    with pytest.raises(TypeError):
        await reports.written()
    await reports.written()
    (event,) = written.events
    assert event.agreement is None


async def test_a_round_is_measured_from_the_one_before_it(
    reports: RoundReports, written: Written, wire: SimpleNamespace, busy: Callable[[], None]
) -> None:
    """And to its commit: what is sent while its report waits belongs to the next one."""
    wire.sent += 30
    reports.begin(outcome(), WORK)
    wire.sent += 4
    busy()
    await reports.written()
    reports.begin(outcome(), WORK)
    await reports.written()
    assert [event.bytes_sent for event in written.events] == [30, 4]


async def test_nothing_of_a_missed_round_is_told_of_the_next(reports: RoundReports, written: Written) -> None:
    reports.contributed(0)
    reports.missed()
    reports.begin(outcome(), WORK)
    await reports.written()
    assert written.events[0].agreement is None
