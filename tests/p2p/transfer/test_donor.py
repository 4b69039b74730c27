"""The donor: gives what it has, says what it has not, refuses nonsense, and keeps to its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import p2p.transfer.donor
from ops.codec import Encoded, get_codec
from p2p.chain_file import ChainFile
from p2p.protocol.chain import MemoryChain
from p2p.protocol.fragments import Fragments
from p2p.protocol.holdings import EMPTY
from p2p.protocol.message import Message
from p2p.protocol.messages import GetRecords, Records
from p2p.protocol.model import BadMessage
from p2p.protocol.serving import DeskLimits, Question
from p2p.protocol.transfer_messages import (
    Chunk,
    GetChunk,
    GetManifest,
    GetMean,
    Manifest,
    MeanSlice,
    NotAvailable,
    Withdraw,
)
from p2p.transfer.donor import Donor
from swarm.outer_state import OuterState
from tests.p2p.protocol.records import FINGERPRINT, history, peer

CHUNK = 1024
COUNT = 2 * CHUNK + 100
ME = peer(1)


class Wire:
    """Takes what the donor sends; `gate` holds bulk answers back."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[tuple[str, Message, bytes]] = asyncio.Queue()
        self.begun: asyncio.Queue[Message] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = 0
        self.most_under_way = 0
        self.lost = False

    def send(self, peer: str, message: Message) -> bool:
        self.sent.put_nowait((peer, message, b""))
        return True

    async def send_bulk(self, peer: str, message: Message, buffers: Sequence[memoryview]) -> None:
        self.begun.put_nowait(message)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.gate.wait()
        self.under_way -= 1
        if self.lost:
            raise ConnectionError("gone")
        self.sent.put_nowait((peer, message, b"".join(buffers)))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


class Setting:
    """A donor with three records, whose state is at round 2."""

    def __init__(self, pool: ThreadPoolExecutor, limits: DeskLimits | None = None) -> None:
        self.wire = Wire()
        self.state = OuterState(
            np.ones(COUNT, np.float32),
            np.zeros(COUNT, np.float32),
            codec=get_codec("int8"),
            lr=0.5,
            momentum=0.5,
            pool=pool,
            chunk_values=CHUNK,
        )
        self.chain = MemoryChain(FINGERPRINT, history(3))
        loop = asyncio.get_running_loop()
        self.heard: asyncio.Queue[tuple[str, dict[str, object]]] = asyncio.Queue()
        self.donor = Donor(
            self.wire,
            self.state,
            self.chain,
            pool,
            loop.time,
            limits or DeskLimits(),
            lambda *told: self.heard.put_nowait(told),
        )

    async def commit(self) -> None:
        for round in range(3):
            mean = Encoded.allocate(self.state.codec, COUNT)
            self.state.codec.quantise(np.full(COUNT, round + 1.0, np.float32), mean)
            await self.state.apply(mean, round)
            await self.state.digests()

    async def ask(self, question: Question) -> tuple[Message, bytes]:
        self.donor.handle(ME, question)
        to, message, payload = await asyncio.wait_for(self.wire.sent.get(), 10)
        assert to == ME
        return message, payload


@pytest.fixture
async def setting(pool: ThreadPoolExecutor) -> Setting:
    made = Setting(pool)
    await made.commit()
    return made


async def test_gives_chunks(setting: Setting) -> None:
    for index in range(3):
        message, payload = await setting.ask(GetChunk(request=index, index=index))
        assert message == Chunk(request=index, round=2, index=index)
        assert payload == bytes(setting.state.read(index)[1])


async def test_gives_manifests_of_the_last_rounds(setting: Setting) -> None:
    for round in range(3):
        message, payload = await setting.ask(GetManifest(request=9, round=round))
        assert message == Manifest(request=9, round=round)
        assert payload == b"".join(setting.state.manifests[round])
    message, _ = await setting.ask(GetManifest(request=9, round=3))
    assert message == NotAvailable(request=9, reason="no manifest of round 3")


async def test_gives_slices_of_means(setting: Setting) -> None:
    for start, stop in ((0, 1024), (1024, 2048), (2048, COUNT), (0, COUNT)):
        message, payload = await setting.ask(GetMean(request=9, round=1, start=start, stop=stop))
        assert message == MeanSlice(request=9, round=1, start=start, stop=stop)
        assert payload == b"".join(setting.state.means[1].slice(start, stop).buffers())
    message, _ = await setting.ask(GetMean(request=9, round=7, start=0, stop=1024))
    assert message == NotAvailable(request=9, reason="the mean of round 7 is not kept here")


async def test_gives_records(setting: Setting) -> None:
    message, _ = await setting.ask(GetRecords(start=1, limit=64))
    assert message == Records(start=1, records=setting.chain.records(1, 64))
    message, _ = await setting.ask(GetRecords(start=0, limit=2))
    assert message == Records(start=0, records=setting.chain.records(0, 2))
    message, _ = await setting.ask(GetRecords(start=3, limit=64))
    assert message == Records(start=3, records=())


async def test_records_that_cannot_be_read_are_not_given(setting: Setting, tmp_path: Path) -> None:
    chain = ChainFile(tmp_path / "records", FINGERPRINT)
    for one in history(2):
        chain.append(one)
    with (tmp_path / "records").open("r+b") as file:
        file.seek(60)
        file.write(b"\0\0\0\0")
    setting.donor._chain = chain
    assert (await setting.ask(GetRecords(start=0, limit=64)))[0] == Records(start=0, records=())
    chain.close()


async def test_says_what_it_has_not(setting: Setting) -> None:
    setting.donor.closed_because = "its own state is not whole"
    for question in (GetChunk(request=9, index=0), GetManifest(request=9, round=2)):
        assert (await setting.ask(question))[0] == NotAvailable(request=9, reason="its own state is not whole")
    setting.donor.closed_because = ""
    setting.state.write(0, EMPTY, setting.state.read(0)[1])
    assert (await setting.ask(GetChunk(request=9, index=0)))[0] == NotAvailable(request=9, reason="no state yet")


@pytest.mark.parametrize(
    "nonsense",
    [
        GetChunk(request=1, index=3),
        GetMean(request=1, round=1, start=1, stop=1024),
        GetMean(request=1, round=1, start=0, stop=1000),
        GetMean(request=1, round=1, start=0, stop=4096),
        GetMean(request=1, round=1, start=1024, stop=1024),
        GetMean(request=1, round=1, start=2048, stop=1024),
        GetRecords(start=-1, limit=1),
    ],
)
async def test_refuses_nonsense(setting: Setting, nonsense: Question) -> None:
    with pytest.raises(BadMessage):
        setting.donor.handle(ME, nonsense)
    assert setting.wire.sent.empty()


async def test_refuses_more_than_a_frame(pool: ThreadPoolExecutor) -> None:
    setting = Setting(pool)
    setting.state.theta_P = np.zeros(20 << 20, np.float32)
    setting.state.fragments = Fragments.whole(20 << 20)
    with pytest.raises(BadMessage, match="bytes of a mean at once"):
        setting.donor.handle(ME, GetMean(request=1, round=1, start=0, stop=18 << 20))


async def test_one_peer_gets_two_answers_at_a_time_and_others_are_not_kept_waiting(pool: ThreadPoolExecutor) -> None:
    setting = Setting(pool, DeskLimits(queued_per_peer=4, answers_per_peer=2, answers=3))
    await setting.commit()
    setting.wire.gate.clear()
    for number in range(6):
        setting.donor.handle(ME, GetChunk(request=number, index=0))
    setting.donor.handle(peer(2), GetChunk(request=0, index=1))
    assert setting.wire.sent.empty()
    setting.wire.gate.set()
    answers = [await asyncio.wait_for(setting.wire.sent.get(), 10) for _ in range(7)]
    assert setting.wire.most_under_way <= 3
    assert sum(isinstance(message, Chunk) for _, message, _ in answers) == 7
    setting.wire.gate.clear()
    for number in range(7):
        setting.donor.handle(ME, GetChunk(request=number, index=0))
    _, message, _ = setting.wire.sent.get_nowait()
    assert message == NotAvailable(request=6, reason="busy: too many questions at once")
    await setting.donor.close()


async def test_newcomers_beyond_what_the_rate_can_serve_are_sent_away(pool: ThreadPoolExecutor) -> None:
    setting = Setting(pool, DeskLimits(bytes_per_second=8 * CHUNK / 50, burst_bytes=1, wait_seconds=60))
    await setting.commit()
    setting.wire.gate.clear()
    for number in range(3):
        setting.donor.handle(peer(number + 2), GetChunk(request=number, index=0))
    to, message, _ = setting.wire.sent.get_nowait()
    assert to == peer(4)
    assert message == NotAvailable(request=2, reason="busy: too many newcomers at once")
    await setting.donor.close()


async def test_chunks_and_means_wait_while_a_reduce_goes_on_and_small_answers_do_not(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2p.transfer.donor.SMALL_BYTES", 1000)
    monkeypatch.setattr("p2p.transfer.donor._RECORDS_COST", 500)
    reducing = True
    setting.donor._reducing = lambda: reducing
    setting.donor.handle(ME, GetChunk(request=1, index=0))
    assert isinstance((await setting.ask(GetRecords(start=1, limit=64)))[0], Records)
    assert isinstance((await setting.ask(GetManifest(request=2, round=2)))[0], Manifest)
    assert setting.wire.begun.qsize() == 1, "the manifest"
    reducing = False
    assert isinstance((await asyncio.wait_for(setting.wire.sent.get(), 10))[1], Chunk)


async def test_a_newcomer_gets_on_however_much_of_the_time_is_reducing(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2p.transfer.donor.REDUCE_SECONDS", 0.3)
    monkeypatch.setattr("p2p.transfer.donor.SMALL_BYTES", 100)
    setting = Setting(pool)
    await setting.commit()
    setting.donor._reducing = lambda: True
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(3):
        assert isinstance((await setting.ask(GetChunk(request=number, index=0)))[0], Chunk)
        assert loop.time() - began >= 0.3


async def test_the_rate_limit_is_kept(pool: ThreadPoolExecutor) -> None:
    size = 8 * CHUNK
    setting = Setting(pool, DeskLimits(bytes_per_second=size / 0.05, burst_bytes=1))
    await setting.commit()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number in range(5):
        setting.donor.handle(ME, GetChunk(request=number, index=0))
    for _ in range(5):
        await asyncio.wait_for(setting.wire.sent.get(), 10)
    assert loop.time() - begin >= 4 * 0.05


async def test_a_lost_link_ends_its_answers_only(setting: Setting) -> None:
    setting.wire.gate.clear()
    for number in range(5):
        setting.donor.handle(ME, GetChunk(request=number, index=0))
    for _ in range(2):
        await asyncio.wait_for(setting.wire.begun.get(), 10)
    answers = set(setting.donor._tasks)
    setting.donor.link_down(ME)
    setting.wire.lost = True
    setting.wire.gate.set()
    await asyncio.wait(answers, timeout=10)
    setting.wire.lost = False
    message, _ = await setting.ask(GetChunk(request=7, index=1))
    assert message == Chunk(request=7, round=2, index=1)
    assert setting.wire.sent.empty()


async def test_a_newcomer_that_takes_nothing_is_given_up_and_named(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(p2p.transfer.donor, "STALL_SECONDS", 0.01)
    setting.wire.gate.clear()
    setting.donor.handle(ME, GetChunk(request=1, index=0))
    event, fields = await asyncio.wait_for(setting.heard.get(), 10)
    assert event == "answer_dropped"
    assert fields == {"peer": ME, "reason": "it did not take its get-chunk answer within 0.01 s"}


async def test_close_gives_up_what_is_under_way(setting: Setting) -> None:
    setting.wire.gate.clear()
    for number in range(4):
        setting.donor.handle(ME, GetChunk(request=number, index=0))
    await asyncio.wait_for(setting.wire.begun.get(), 10)
    await setting.donor.close()
    assert setting.wire.sent.empty()
    setting.donor.handle(ME, GetChunk(request=9, index=0))
    assert not setting.donor._tasks, "nothing new is begun"


async def test_what_is_withdrawn_or_waits_too_long_is_not_answered(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(pool, DeskLimits(answers_per_peer=1, wait_seconds=60.0))
    await setting.commit()
    now = 0.0
    monkeypatch.setattr(setting.donor, "_now", lambda: now)
    setting.wire.gate.clear()
    for number in range(3):
        setting.donor.handle(ME, GetChunk(request=number, index=0))
    await asyncio.wait_for(setting.wire.begun.get(), 10)
    setting.donor.withdraw(ME, Withdraw(request=1))
    now = 61.0
    setting.donor.handle(ME, GetChunk(request=3, index=1))
    assert setting.wire.sent.get_nowait()[1] == NotAvailable(request=2, reason="busy: others come first")
    setting.wire.gate.set()
    answered = [(await asyncio.wait_for(setting.wire.sent.get(), 10))[1] for _ in range(2)]
    assert [message.request for message in answered if isinstance(message, Chunk)] == [0, 3]
    await setting.donor.close()
