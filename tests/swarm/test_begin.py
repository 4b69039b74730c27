"""What a node begins with: a checkpoint if it can reach a good one, else the run's first parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from p2p.chain_file import ChainFile
from swarm import begin as begin_module
from swarm import events
from swarm.begin import Beginning, begin
from swarm.checkpoint.folder import CheckpointFolder
from swarm.checkpoint.manifest import THETA
from swarm.checkpoint.remote import RemoteStore
from tests.p2p.protocol.records import peer, verify
from tests.swarm.checkpoint.saved import LAYOUT, ME, chain_of, vectors, world

FIRST = np.full(LAYOUT.count, 0.5, np.float32)


@pytest.fixture(autouse=True)
def _stand_in_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    real = begin_module.resume
    monkeypatch.setattr(begin_module, "resume", lambda *arguments: real(*arguments, verify))


def begun(
    path: Path, chain: ChainFile, remote: RemoteStore | None = None, peer_id: str = ME
) -> tuple[Beginning, list[events.Event]]:
    told: list[events.Event] = []
    folder = CheckpointFolder(path / "checkpoints")
    theta_P = np.full_like(FIRST, np.nan)

    def initial(out_P: NDArray[np.float32]) -> None:
        out_P[:] = FIRST

    return begin(LAYOUT, chain, peer_id, folder, remote, theta_P, initial, told.append), told


def test_a_node_without_checkpoints_begins_with_the_first_parameters(tmp_path: Path) -> None:
    with chain_of(tmp_path / "chain", 3) as chain:
        first, told = begun(tmp_path, chain)
    assert (first.head.height, told) == (-1, [])
    assert np.array_equal(first.theta_P, FIRST)
    assert not first.momentum_P.any()


def test_a_node_with_one_goes_on_from_it(tmp_path: Path) -> None:
    with world(tmp_path, 4) as run:
        run.save()
    with chain_of(tmp_path / "chain", 9) as chain:
        first, told = begun(tmp_path, chain)
    assert first.head.height == 4
    assert np.array_equal(first.theta_P, vectors(4)[0])
    assert np.array_equal(first.momentum_P, vectors(4)[1])
    assert first.inner is not None
    [resumed] = told
    assert isinstance(resumed, events.Resumed)
    assert (resumed.round, resumed.inner_steps) == (4, 40)


def test_when_all_are_damaged_the_first_parameters_are_untouched_by_them(tmp_path: Path) -> None:
    with world(tmp_path, 4) as run:
        path, _ = run.save()
    data = bytearray((path / THETA).read_bytes())
    data[-1] ^= 1
    (path / THETA).write_bytes(data)
    with chain_of(tmp_path / "chain", 9) as chain:
        first, told = begun(tmp_path, chain)
    assert first.head.height == -1
    assert np.array_equal(first.theta_P, FIRST)
    assert not first.momentum_P.any()
    assert [event.EVENT for event in told] == ["checkpoint_refused"]


def test_a_new_disk_gets_the_newest_of_the_run_from_the_store_whoever_wrote_it(tmp_path: Path) -> None:
    remote = RemoteStore(f"file://{tmp_path}/remote")
    for round, writer in ((3, ME), (4, peer(2))):
        with world(tmp_path / "old", round) as run:
            remote.upload(run.save(writer)[0])
    with chain_of(tmp_path / "chain", 0) as chain:
        first, told = begun(tmp_path / "new", chain, remote)
    assert first.head.height == 4
    assert first.inner is None
    assert [event.EVENT for event in told] == ["notice", "resumed"]


def test_a_store_that_fails_is_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = RemoteStore(f"file://{tmp_path}/remote")

    def refuse() -> None:
        raise RuntimeError("no route to host")

    monkeypatch.setattr(remote, "scan", refuse)
    with chain_of(tmp_path / "chain", 0) as chain:
        first, told = begun(tmp_path, chain, remote)
    assert first.head.height == -1
    [error] = told
    assert "no route to host" in error.line()


def test_first_parameters_that_are_not_here_leave_the_node_empty(tmp_path: Path) -> None:
    with chain_of(tmp_path / "chain", 0) as chain:
        theta_P = np.zeros(LAYOUT.count, np.float32)
        folder = CheckpointFolder(tmp_path / "checkpoints")
        first = begin(LAYOUT, chain, ME, folder, None, theta_P, lambda out_P: False, lambda event: None)
    assert not first.held
    assert first.head.height == -1
