"""The state file is kept close to the state, and taken up by the next start: a fetch goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from p2p.protocol.holdings import EMPTY
from p2p.protocol.message import Message
from p2p.protocol.transfer_messages import Chunk
from p2p.transfer.keeper import StateKeeper
from p2p.transfer.state_file import StateFile
from tests.p2p.protocol.records import FINGERPRINT
from tests.p2p.transfer.network import CHUNK, CHUNKS, COUNT, Network, Node, Swarm

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
async def swarm(pool: ThreadPoolExecutor) -> AsyncIterator[Swarm]:
    """Three members, four rounds old."""
    swarm = Swarm(Network(), pool, 3)
    await swarm.start(4)
    yield swarm
    await swarm.close()


class Life:
    """One life of a newcomer: its memory begins empty, its file does not."""

    def __init__(self, swarm: Swarm, path: Path) -> None:
        self.told: list[tuple[str, dict[str, object]]] = []
        self.node = Node(swarm.network, 7, swarm.pool, round=EMPTY)
        self.file = StateFile(path / "state", FINGERPRINT, COUNT, CHUNK)
        self.keeper = StateKeeper(self.node.state, self.file, lambda event, fields: self.told.append((event, fields)))
        self.node.transfer._keeper = self.keeper

    async def fetch_half(self, swarm: Swarm) -> None:
        """Fetch until half of the chunks are there; then the process is gone."""
        half, chunks = asyncio.Event(), 0

        def watch(sender: str, to: str, message: Message) -> None:
            nonlocal chunks
            chunks += isinstance(message, Chunk)
            if chunks >= CHUNKS // 2:
                half.set()

        swarm.network.watch = watch
        task = asyncio.create_task(self.node.transfer.fetch(swarm.sources))
        await half.wait()
        task.cancel()
        await asyncio.wait({task})


def equal(node: Node, swarm: Swarm) -> None:
    assert node.state.theta_P.tobytes() == swarm.members[0].state.theta_P.tobytes()
    assert node.state.momentum_P.tobytes() == swarm.members[0].state.momentum_P.tobytes()
    assert node.state.round == swarm.members[0].state.round


async def test_a_fetch_goes_on_after_a_restart(swarm: Swarm, tmp_path: Path) -> None:
    first = Life(swarm, tmp_path)
    await first.fetch_half(swarm)
    kept = await first.keeper.save()
    assert kept == sum(first.node.state.version(index) != EMPTY for index in range(CHUNKS)) > 0
    second = Life(swarm, tmp_path)
    result = await second.node.transfer.fetch(swarm.sources)
    equal(second.node, swarm)
    assert result.chunks == CHUNKS - kept
    assert second.told == [("notice", {"message": f"{kept} of {CHUNKS} chunks of the state are on disk from before"})]
    await first.keeper.close()
    await second.keeper.close()


async def test_rounds_that_were_missed_meanwhile_cost_their_means(swarm: Swarm, tmp_path: Path) -> None:
    first = Life(swarm, tmp_path)
    await first.node.transfer.fetch(swarm.sources)
    assert await first.keeper.save() == CHUNKS
    await swarm.commit()
    await swarm.commit()
    second = Life(swarm, tmp_path)
    result = await second.node.transfer.fetch(swarm.sources)
    equal(second.node, swarm)
    assert (result.chunks, result.replayed) == (0, 2 * CHUNKS)
    await first.keeper.close()
    await second.keeper.close()


async def test_what_was_damaged_on_disk_is_fetched(swarm: Swarm, tmp_path: Path) -> None:
    first = Life(swarm, tmp_path)
    await first.node.transfer.fetch(swarm.sources)
    await first.keeper.save()
    with (tmp_path / "state").open("r+b") as raw:
        raw.seek(-100, 2)
        raw.write(b"damage")
    second = Life(swarm, tmp_path)
    result = await second.node.transfer.fetch(swarm.sources)
    equal(second.node, swarm)
    assert result.chunks == 1
    await first.keeper.close()
    await second.keeper.close()


async def test_false_chunks_on_disk_are_found_out(swarm: Swarm, tmp_path: Path) -> None:
    """Sealed and labelled, but of a history that is not the swarm's: with a manifest at hand, and without."""
    first = Life(swarm, tmp_path)
    await first.node.transfer.fetch(swarm.sources)
    for index, round in ((0, 3), (1, 0), (2, 9)):
        first.file.write(index, round, bytes(8 * CHUNK))
    second = Life(swarm, tmp_path)
    result = await second.node.transfer.fetch(swarm.sources)
    equal(second.node, swarm)
    assert result.dropped == []
    await first.keeper.close()
    await second.keeper.close()


async def test_only_what_changed_is_written(swarm: Swarm, tmp_path: Path) -> None:
    life = Life(swarm, tmp_path)
    state = life.node.state
    assert await life.keeper.save() == 0, "nothing is held"
    await life.node.transfer.fetch(swarm.sources)
    assert await life.keeper.save() == CHUNKS
    assert await life.keeper.save() == 0
    await state.apply(None, 4)
    assert await life.keeper.save() == CHUNKS
    state.write(3, 5, state.read(3)[1])
    assert await life.keeper.save() == 0, "chunks are coming: the one on disk can still be brought up with a mean"
    state.write(3, 8, state.read(3)[1])
    assert await life.keeper.save() == 1
    await life.keeper.close()


async def test_what_a_life_begins_with_replaces_nothing(swarm: Swarm, tmp_path: Path) -> None:
    """A checkpoint may be older than the file."""
    first = Life(swarm, tmp_path)
    await first.node.transfer.fetch(swarm.sources)
    await first.keeper.save()
    await first.keeper.close()
    file = StateFile(tmp_path / "state", FINGERPRINT, COUNT, CHUNK)
    node = Node(swarm.network, 8, swarm.pool, round=1)
    keeper = StateKeeper(node.state, file, lambda event, fields: None)
    assert await keeper.save() == 0
    await keeper.restore()
    assert node.state.round == 3
    assert await keeper.save() == 0
    await keeper.restore()
    await keeper.close()


async def test_it_keeps_up_by_itself_and_tells_of_a_full_disk(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2p.transfer.keeper.LOOK_SECONDS", 0.01)
    life = Life(swarm, tmp_path)
    loop, kept, write = asyncio.get_running_loop(), asyncio.Event(), life.file.write

    def watch(index: int, round: int, data: bytes) -> None:
        write(index, round, data)
        if all(life.file.round(index) == 3 for index in range(CHUNKS)):
            loop.call_soon_threadsafe(kept.set)

    monkeypatch.setattr(life.file, "write", watch)
    life.keeper.start()
    await life.node.transfer.fetch(swarm.sources)
    await asyncio.wait_for(kept.wait(), 10)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(life.file, "write", full)
    await life.node.state.apply(None, 4)
    assert life.keeper._running is not None
    await asyncio.wait_for(life.keeper._running, 10)
    assert life.told[-1][0] == "error"
    assert "No space left on device; a restart will fetch the whole state" in str(life.told[-1][1]["message"])
    await life.keeper.close()


async def test_a_disk_that_cannot_be_read_costs_the_fetch_only(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Life(swarm, tmp_path)
    await first.fetch_half(swarm)
    await first.keeper.save()
    second = Life(swarm, tmp_path)

    def broken(_index: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(second.file, "read", broken)
    result = await second.node.transfer.fetch(swarm.sources)
    equal(second.node, swarm)
    assert result.chunks == CHUNKS
    assert second.told[0][0] == "error"
    await first.keeper.close()
    await second.keeper.close()
