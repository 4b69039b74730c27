"""What an attempt does by itself; tests/p2p/reduce/test_reducer.py has the rest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from blake3 import blake3

from ops.codec import CODECS, Encoded
from p2p.channel.widening import NO_FLOW, Flow
from p2p.protocol.butterfly import Butterfly
from p2p.protocol.message import Message
from p2p.protocol.messages import Go, Plan
from p2p.reduce.attempt import Attempt
from p2p.reduce.contribution import Contribution
from p2p.reduce.means import segment_digest
from p2p.reduce.recycler import Recycler
from p2p.reduce.uplink import ROOM, Uplink
from tests.p2p.protocol.drafts import plan_of
from tests.p2p.protocol.records import peer
from tests.p2p.reduce.memory_carrier import settle, until

INT8 = CODECS["int8"]
COUNT = 400_000


class StuckCarrier:
    """Takes the first frame to each peer and never finishes it."""

    def __init__(self) -> None:
        self.gos: list[str] = []
        self.begun: list[str] = []
        self.open: set[str] = set()
        """Peers to whom frames are finished."""
        self.open_lanes = 1
        self.on_the_way: dict[str, int] = {}
        self.carried: dict[str, int] = {}
        self.unsent = 0
        self.paces: dict[str, float] = {}
        self.hastened: list[tuple[str, int]] = []
        self.finish = asyncio.Event()

    def send(self, peer: str, message: Message) -> bool:
        self.gos.append(peer)
        return True

    async def send_bulk(self, peer: str, message: Message, buffers: Sequence[memoryview]) -> None:
        self.begun.append(peer)
        if peer not in self.open:
            await self.finish.wait()

    def lanes(self, peer: str) -> int:
        return self.open_lanes

    def outstanding(self, peer: str) -> int:
        return self.on_the_way.get(peer, 0)

    def flow(self, peer: str) -> Flow:
        return NO_FLOW._replace(delivered=self.carried.get(peer, 0), unsent=self.unsent)

    def allot(self, paces: Mapping[str, float]) -> None:
        self.paces = dict(paces)

    def hasten(self, peer: str, left: int) -> None:
        self.hastened.append((peer, left))


def attempt_with(carrier: StuckCarrier, pool: ThreadPoolExecutor, plan: Plan | None = None) -> Attempt:
    plan = plan or plan_of([1, 1], COUNT, INT8.block)
    x_P = np.ones(COUNT, np.float32)
    codes = Encoded.allocate(INT8, COUNT)
    contribution = Contribution(codes, lambda start, stop, out: INT8.quantise(x_P[start:stop], out), pool)
    core = Butterfly(plan, peer(0), COUNT, 1 << 20)
    mean = Encoded.allocate(INT8, COUNT)
    # not the first, so nothing is sent before it is asked for
    return Attempt(core, INT8, mean, {}, contribution, carrier, pool, Recycler(1 << 30), first=False)


def test_a_segment_is_digested_as_its_scales_and_then_its_codes() -> None:
    mean = Encoded.allocate(INT8, 5000)
    INT8.quantise(np.arange(5000, dtype=np.float32), mean)
    assert segment_digest(mean) == blake3(mean.scales_B.tobytes() + mean.codes.tobytes()).digest()
    assert segment_digest(mean.slice(0, 0)) == blake3(b"").digest()


async def test_a_stopped_attempt_finishes_the_frames_it_began_and_begins_no_other() -> None:
    carrier = StuckCarrier()
    with ThreadPoolExecutor(2) as pool:
        attempt = attempt_with(carrier, pool)
        assert carrier.gos == [peer(1)]
        attempt.on_go(peer(1), Go(ballot=attempt.ballot, room=2, parts=b"", means=b""))
        await until(lambda: len(carrier.begun) == 2)
        attempt.stop()
        attempt.stop()
        await settle()
        assert attempt.busy
        assert attempt.done.cancelled()
        carrier.finish.set()
        await until(lambda: not attempt.busy)
        assert len(carrier.begun) == 2


async def test_there_is_a_backlog_while_links_do_not_take_what_there_is_to_send() -> None:
    carrier = StuckCarrier()
    with ThreadPoolExecutor(2) as pool:
        attempt = attempt_with(carrier, pool)
        assert attempt.backlogged == 0
        attempt.on_go(peer(1), Go(ballot=attempt.ballot, room=2, parts=b"", means=b""))
        await until(lambda: len(carrier.begun) == 2)
        assert attempt.backlogged == 1
        carrier.finish.set()
        await until(lambda: attempt.backlogged == 0)
        await attempt.abort()


@pytest.mark.parametrize("paced", [False, True])
async def test_when_one_has_got_everything_the_others_are_to_have_its_part_of_the_uplink(paced: bool) -> None:
    """With paces they have it already, and connections are left alone."""
    carrier, uplink = StuckCarrier(), Uplink()
    uplink.capacity = 1000.0 if paced else 0.0
    block = INT8.block
    spans = (0, 0, 100 * block, 200 * block, 300 * block, COUNT)  # we own nothing, and so give parts only
    plan = plan_of([1] * 5, COUNT, block, spans=spans, piece=50 * block)
    one, two, three, four = (peer(rank) for rank in range(1, 5))
    with ThreadPoolExecutor(2) as pool:
        attempt = attempt_with(carrier, pool, plan)
        carrier.open.add(one)
        for name in (two, three, four):
            attempt.on_go(name, Go(ballot=attempt.ballot, room=2, parts=b"", means=b""))
        await until(lambda: {two, three, four} <= set(carrier.begun))
        carrier.on_the_way = {two: 9, three: 9, four: 9}
        attempt.share(uplink)
        assert len(carrier.hastened) == 4 * paced, "the one has got nothing yet"
        carrier.hastened.clear()
        attempt.on_go(one, Go(ballot=attempt.ballot, room=2, parts=b"", means=b""))
        await until(lambda: carrier.begun.count(one) == 2 and attempt.backlogged == 0.75)
        carrier.on_the_way[one] = 7
        attempt.share(uplink)
        assert carrier.hastened == [], "the last bytes to the one are on their way"
        carrier.on_the_way[one] = 0
        attempt.share(uplink)
        attempt.share(uplink)
        assert carrier.hastened == ([] if paced else [(two, 9), (three, 9), (four, 9)])
        await attempt.abort()


async def test_each_is_sent_to_at_its_pace_until_it_has_everything() -> None:
    carrier = StuckCarrier()
    uplink = Uplink()
    uplink.capacity = 1000.0
    with ThreadPoolExecutor(2) as pool:
        attempt = attempt_with(carrier, pool)
        attempt.share(uplink)
        assert carrier.paces == {peer(1): ROOM * 1000}
        assert [name for name, _ in carrier.hastened] == [peer(1)], "it has a pace that it did not have before"
        attempt.share(uplink)
        assert len(carrier.hastened) == 1
        carrier.finish.set()
        attempt.on_go(peer(1), Go(ballot=attempt.ballot, room=2, parts=b"", means=b""))
        await until(lambda: len(carrier.begun) == 2)
        attempt.core.left = lambda _name: 0  # type: ignore[method-assign]
        attempt.share(uplink)
        assert carrier.paces == {}
        await attempt.abort()


@pytest.mark.parametrize("unsent", [0, 7])
async def test_what_waits_in_the_kernel_waits_for_the_uplink_too(unsent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    carrier, seen = StuckCarrier(), list[bool]()
    uplink = Uplink()
    monkeypatch.setattr(uplink, "read", lambda _now, streams: seen.append(streams[peer(1)].waiting) or {})
    carrier.unsent = unsent
    with ThreadPoolExecutor(2) as pool:
        attempt = attempt_with(carrier, pool)
        attempt.share(uplink)
        await attempt.abort()
    assert seen == [unsent > 0]


@pytest.mark.parametrize("lost", [True, False])
async def test_a_piece_whose_link_is_lost_while_it_is_packed_is_not_sent(lost: bool) -> None:
    """Over the next link it goes when the Go says so."""
    carrier, uplink, packing = StuckCarrier(), Uplink(), threading.Event()
    uplink.ways = {peer(1): 0.0}
    with ThreadPoolExecutor(1) as pool:
        attempt = attempt_with(carrier, pool)
        attempt.share(uplink)
        await settle()  # its codes are made next, by the only thread
        await asyncio.get_running_loop().run_in_executor(pool, lambda: None)
        pool.submit(packing.wait)
        attempt.on_go(peer(1), Go(ballot=attempt.ballot, room=1, parts=b"", means=b""))
        await settle()
        if lost:
            attempt.on_link_down(peer(1))
        packing.set()
        await asyncio.get_running_loop().run_in_executor(pool, lambda: None)
        await settle()
        assert len(carrier.begun) == (0 if lost else 1)
        await attempt.abort()


async def test_lanes_that_come_up_during_a_reduce_are_used() -> None:
    carrier = StuckCarrier()
    plan = plan_of([1, 1], COUNT, INT8.block, piece=10 * INT8.block)
    with ThreadPoolExecutor(2) as pool:
        attempt = attempt_with(carrier, pool, plan)
        attempt.on_go(peer(1), Go(ballot=attempt.ballot, room=8, parts=b"", means=b""))
        await until(lambda: len(carrier.begun) == 2)
        await settle()
        assert len(carrier.begun) == 2, "one for the lane, and one ahead"
        carrier.open_lanes = 3
        attempt.share(Uplink())
        attempt.share(Uplink())
        await until(lambda: len(carrier.begun) == 4)
        await settle()
        assert len(carrier.begun) == 4
        await attempt.abort()


async def test_an_aborted_attempt_does_not_wait_for_its_frames() -> None:
    carrier = StuckCarrier()
    with ThreadPoolExecutor(2) as pool:
        attempt = attempt_with(carrier, pool)
        attempt.on_go(peer(1), Go(ballot=attempt.ballot, room=2, parts=b"", means=b""))
        await until(lambda: len(carrier.begun) == 2)
        await attempt.abort()
        assert not attempt.busy
        with pytest.raises(asyncio.CancelledError):
            await attempt.done
