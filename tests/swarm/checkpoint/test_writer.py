"""A save is all or nothing: killed, interrupted or out of disk, what was there before is still there."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from ops.layout import FlatLayout
from p2p.chain_file import ChainFile
from swarm.checkpoint import flat_file
from swarm.checkpoint.folder import CheckpointFolder, Keep
from swarm.checkpoint.load import resume
from swarm.checkpoint.manifest import INNER, MANIFEST
from swarm.checkpoint.writer import Abandoned, Job, write_checkpoint
from tests.p2p.protocol.records import FINGERPRINT, verify
from tests.swarm.checkpoint.saved import ME, chain_of, state_of, world

KILLS = 20
BIG = FlatLayout.of([("a", (1500, 1000)), ("b", (1500, 1000))])
"""24 MB with momentum: a save takes long enough to be killed at any point of it."""


def test_the_manifest_is_written_last_and_everything_is_synced_before_the_name_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync = os.fsync

    def fsync(file: int) -> None:
        sync(file)
        done.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)

    monkeypatch.setattr(flat_file.os, "fsync", fsync)
    with world(tmp_path, 3) as run:
        target, manifest = run.save()
    *files, last, partial, parent = done
    assert set(files) == set(manifest.files)
    assert (last, partial, parent) == (MANIFEST, f".partial-{target.name}", "checkpoints")
    assert {path.name for path in target.iterdir()} == {*manifest.files, MANIFEST}
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_save_replaces_an_older_one_of_the_same_name(tmp_path: Path) -> None:
    with world(tmp_path, 3) as run:
        run.save()
        target, manifest = run.save(with_inner=False)
    assert manifest.inner is None
    assert INNER not in {path.name for path in target.iterdir()}


@pytest.mark.parametrize("after", [0, 3])
def test_an_abandoned_save_leaves_nothing(tmp_path: Path, after: int) -> None:
    with world(tmp_path, 3) as run:
        asked = iter([False] * after + [True] * 100)
        job = dataclasses.replace(run.job(), abandoned=lambda: next(asked))
        with pytest.raises(Abandoned):
            write_checkpoint(job, run.folder.target(3, ME))
        assert list(run.folder.path.iterdir()) == []


def test_a_full_disk_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with world(tmp_path, 3) as run:
        _, before = run.save()
        write = os.write

        def full(file: int, data: memoryview) -> int:
            if len(data) > 4000:
                raise OSError(28, "No space left on device")
            return write(file, data)

        monkeypatch.setattr(flat_file.os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            run.save()
        found, bad = run.folder.scan()
        assert ([one.manifest for one in found], bad) == ([before], [])
        assert len(list(run.folder.path.iterdir())) == 1


def test_records_that_are_cut_meanwhile_end_the_save(tmp_path: Path) -> None:
    with world(tmp_path, 3) as run:
        job = run.job()
        run.chain.truncate(1)
        with pytest.raises(OSError, match="cut while it was read"):
            write_checkpoint(job, run.folder.target(3, ME))
        assert list(run.folder.path.iterdir()) == []


# --- SIGKILL ---


def values(round: int) -> np.ndarray:
    """theta after a round in the test below; momentum is its negative."""
    return np.arange(BIG.count, dtype=np.float32) + round


def save_for_ever(folder: Path, first: int, told: Connection) -> None:
    """A process that does nothing but save, and tells of every save begun and done."""
    chain = ChainFile(folder / "chain", FINGERPRINT)
    checkpoints = CheckpointFolder(folder / "checkpoints")
    checkpoints.sweep(ME)
    for round in range(first, chain.tip.height + 1):
        theta_P = values(round)
        job = Job(
            run={},
            fingerprint=FINGERPRINT,
            head=chain.hash_at(round),
            tokens_total=chain.record(round).record.tokens_total,
            state_root=bytes(32),
            peer=ME,
            layout=BIG,
            snapshot=state_of(theta_P, -theta_P, round),
            records=chain.raw(round),
        )
        told.send(("begun", round))
        write_checkpoint(job, checkpoints.target(round, ME))
        checkpoints.prune(Keep(newest=1), ME)
        told.send(("done", round))


@pytest.mark.timeout(240)
def test_killed_at_any_moment_of_a_save_there_is_always_a_good_one(tmp_path: Path) -> None:
    with chain_of(tmp_path / "chain", 400):
        pass
    spawn = multiprocessing.get_context("forkserver")
    spawn.set_forkserver_preload([__name__])
    moments, last, seconds = random.Random(7), -1, 0.0
    for kill in range(KILLS + 1):
        receiver, sender = spawn.Pipe(duplex=False)
        process = spawn.Process(target=save_for_ever, args=(tmp_path, last + 1, sender))
        process.start()
        sender.close()
        first = last + 1
        assert receiver.recv() == ("begun", first)
        began = time.monotonic()
        if kill == 0:
            assert receiver.recv() == ("done", first)
            seconds = time.monotonic() - began
        else:
            time.sleep(moments.uniform(0, 1.5 * seconds))  # not to wait for something: the moment is the test
        process.kill()
        process.join()
        told = [("begun", first)]
        try:
            while True:
                told.append(receiver.recv())
        except EOFError:
            pass
        finished = max([round for what, round in told if what == "done"], default=last if kill else first)
        last = max(last, good_round(tmp_path))
        assert last >= finished


def good_round(path: Path) -> int:
    """The round of the newest checkpoint, which must be whole."""
    theta_P, momentum_P = np.empty(BIG.count, np.float32), np.empty(BIG.count, np.float32)
    with chain_of(path / "mine", 0) as chain:
        found = resume(CheckpointFolder(path / "checkpoints"), BIG, theta_P, momentum_P, chain, ME, no_harm, verify)
    assert found is not None, "no checkpoint is left"
    (path / "mine").unlink()
    assert np.array_equal(theta_P, values(found.manifest.round))
    assert np.array_equal(momentum_P, -theta_P)
    return found.manifest.round


def no_harm(path: Path, reason: str) -> None:
    """Torn folders may be there, whole ones may not be damaged."""
    assert "never finished" in reason, (path, reason)
