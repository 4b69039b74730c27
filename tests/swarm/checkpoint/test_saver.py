"""Saves run beside training: one at a time, told when done, and never in the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from p2p.protocol.plan import Head
from swarm import events
from swarm.checkpoint import saver as saver_module
from swarm.checkpoint.folder import CheckpointFolder, Keep, name_of
from swarm.checkpoint.inner import InnerState
from swarm.checkpoint.remote import RemoteStore
from swarm.checkpoint.saver import SavedRun, SavePlan, Saver
from swarm.events import EventLog, EventReader
from tests.p2p.protocol.records import FINGERPRINT
from tests.swarm.checkpoint.saved import LAYOUT, ME, World, head_of, inner, world
from tests.swarm.checkpoint.test_snapshot import mean_of

SECONDS = 30.0


class Node:
    """A node as the saver sees it."""

    def __init__(self, run: World, path: Path, **plan: Any) -> None:
        fields = {"every": 2, "keep": Keep(2), "folder": CheckpointFolder(path / "checkpoints")} | plan
        self.run, self.copies = run, 0
        self.log = EventLog(path / "events.jsonl", quiet=True)
        self.reader = EventReader(path / "events.jsonl")
        self.saver = Saver(
            SavePlan(**fields), SavedRun({}, FINGERPRINT, LAYOUT, ME), run.state, run.chain, self.copy_inner, self.log
        )

    async def copy_inner(self) -> InnerState:
        self.copies += 1
        return inner(1)

    @property
    def head(self) -> Head:
        assert self.run.state.round is not None
        return head_of(self.run.chain, self.run.state.round)

    async def commit(self) -> None:
        """The next round of a history that is on disk already."""
        assert self.run.state.round is not None
        round = self.run.state.round + 1
        self.saver.prepare(round)
        await self.run.state.apply(mean_of(round), round)
        await self.saver.after_round(self.head)

    async def told(self, kind: type[events.Event], count: int = 1) -> list[events.Event]:
        """Wait for so many events of a kind."""
        found: list[events.Event] = []
        async with asyncio.timeout(SECONDS):
            while len(found) < count:
                await asyncio.sleep(0.005)
                found += [event for _, event in self.reader.new() if isinstance(event, kind)]
        return found


@asynccontextmanager
async def node(path: Path, **plan: Any) -> AsyncIterator[Node]:
    """At round 1 of a history of 10 records."""
    with world(path, 9) as run:
        for index in range(run.state.chunks):
            run.state.write(index, 1, run.state.read(index)[1])
        one = Node(run, path, **plan)
        yield one
        await one.saver.at_end(one.head)
        one.log.close()


def rounds(one: Node) -> list[int]:
    found, bad = one.saver.plan.folder.scan()
    assert bad == []
    return [checkpoint.manifest.round for checkpoint in found]


async def test_every_second_round_is_saved_and_the_newest_two_stay(tmp_path: Path) -> None:
    async with node(tmp_path) as one:
        for _ in range(7):
            await one.commit()
            await one.saver._over()
        assert rounds(one) == [8, 6]
        saved = await one.told(events.Checkpoint, 4)
        assert [event.round for event in saved if isinstance(event, events.Checkpoint)] == [2, 4, 6, 8]
        assert one.copies == 4


async def test_without_the_inner_optimizer(tmp_path: Path) -> None:
    async with node(tmp_path, inner=False) as one:
        await one.commit()
        await one.saver._over()
        assert one.saver.plan.folder.scan()[0][0].manifest.inner is None
        assert one.copies == 0


async def test_no_checkpoints_are_none(tmp_path: Path) -> None:
    async with node(tmp_path, every=0) as one:
        await one.commit()
        await one.saver.at_end(one.head)
        await one.saver.at_stop(one.head)
    assert not (tmp_path / "checkpoints").exists()


class SlowDisk:
    """Holds every write of a checkpoint back until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        write = saver_module.write_checkpoint

        def slow(*arguments: Any) -> Any:
            self.begun.set()
            assert self.let_go.wait(SECONDS)
            return write(*arguments)

        monkeypatch.setattr(saver_module, "write_checkpoint", slow)


async def test_a_save_that_lasts_over_rounds_is_of_its_own_round_and_the_next_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    async with node(tmp_path) as one:
        await one.commit()
        disk.begun.wait(SECONDS)
        digests = await one.run.state.digests()
        for _ in range(3):
            await one.commit()
        [notice] = await one.told(events.Notice)
        assert "round 4 is not saved" in notice.line()
        disk.let_go.set()
        await one.saver._over()
        assert rounds(one) == [2]
        assert one.saver.plan.folder.scan()[0][0].manifest.state_root == digests.root.hex()


async def test_the_end_of_a_run_is_saved_and_waited_for(tmp_path: Path) -> None:
    async with node(tmp_path) as one:
        await one.commit()
        await one.commit()
        await one.saver.at_end(one.head)
        assert rounds(one) == [3, 2]
        await one.saver.at_end(one.head)
        await one.saver.at_stop(one.head)
        assert one.copies == 2, "what is on disk is not saved again"


async def test_a_node_that_is_told_to_stop_saves_what_it_can_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(tmp_path) as one:
        await one.commit()
        await one.commit()
        await one.saver.at_stop(one.head)
        assert rounds(one) == [3, 2]
        disk = SlowDisk(monkeypatch)
        monkeypatch.setattr(saver_module, "STOP_SECONDS", 0.05)
        await one.commit()
        disk.begun.wait(SECONDS)
        await one.saver.at_stop(one.head)
        [notice] = await one.told(events.Notice)
        assert "given up" in notice.line()
        disk.let_go.set()
        await one.saver._over()
        assert rounds(one) == [3, 2]
        assert [path.name for path in one.saver.plan.folder.path.glob(".*")] == []


async def test_a_trainer_that_does_not_come_to_rest_costs_the_optimizer_not_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver_module, "STOP_SECONDS", 0.4)
    async with node(tmp_path, every=1000) as one:
        await one.commit()
        monkeypatch.setattr(one.saver, "_copy_inner", asyncio.Event().wait)
        await one.saver.at_stop(one.head)
        assert rounds(one) == [2]
        assert one.saver.plan.folder.scan()[0][0].manifest.inner is None


async def test_a_disk_that_cannot_be_written_is_an_event(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    async with node(tmp_path) as one:
        await one.commit()
        await one.saver._over()
        [error] = await one.told(events.Error)
        assert "not written" in error.line()
        (tmp_path / "checkpoints").unlink()
        await one.commit()
        await one.commit()
        await one.saver._over()
        assert rounds(one) == [4]


async def test_checkpoints_are_uploaded_and_pruned_there(tmp_path: Path) -> None:
    remote = RemoteStore(f"file://{tmp_path}/remote")
    async with node(tmp_path, remote=remote, keep=Keep(1)) as one:
        for _ in range(4):
            await one.commit()
            await one.saver._over()
        assert [found.name for found in remote.scan()] == [name_of(4, ME)]
        assert len(await one.told(events.Uploaded, 2)) == 2


async def test_a_store_that_fails_is_an_event_and_the_checkpoint_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = RemoteStore(f"file://{tmp_path}/remote")

    def refuse(folder: Path) -> None:
        raise RuntimeError("403 Forbidden")

    monkeypatch.setattr(remote, "upload", refuse)
    async with node(tmp_path, remote=remote) as one:
        await one.commit()
        await one.saver._over()
        [error] = await one.told(events.Error)
        assert "403 Forbidden" in error.line()
        assert rounds(one) == [2]
