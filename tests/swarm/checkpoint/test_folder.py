"""Which checkpoints there are, and which go."""

from __future__ import annotations

from pathlib import Path

from swarm.checkpoint.folder import CheckpointFolder, Keep, name_of
from swarm.checkpoint.manifest import MANIFEST
from tests.p2p.protocol.records import peer
from tests.swarm.checkpoint.saved import ME, world

OTHER = peer(2)


def save(path: Path, round: int, peer_id: str = ME, tokens: int = 100) -> None:
    with world(path, round, tokens) as run:
        run.save(peer_id)


def names(folder: CheckpointFolder) -> set[str]:
    return {path.name for path in folder.path.iterdir()}


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "no").scan() == ([], [])


def test_the_heavier_lineage_is_newer(tmp_path: Path) -> None:
    save(tmp_path, 5)
    save(tmp_path, 6)
    save(tmp_path, 4, tokens=1000)
    found, bad = CheckpointFolder(tmp_path / "checkpoints").scan()
    assert [one.manifest.round for one in found] == [4, 6, 5]
    assert bad == []


def test_the_newest_and_the_milestones_stay(tmp_path: Path) -> None:
    for round in range(1, 8):
        save(tmp_path, round)
    save(tmp_path, 1, OTHER)
    folder = CheckpointFolder(tmp_path / "checkpoints")
    folder.prune(Keep(newest=2, every=3), ME)
    assert names(folder) == {name_of(r, ME) for r in (3, 6, 7)} | {name_of(1, OTHER)}
    folder.prune(Keep(newest=1), ME)
    assert names(folder) == {name_of(7, ME), name_of(1, OTHER)}


def test_a_torn_folder_is_named_and_not_counted(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    folder = CheckpointFolder(tmp_path / "checkpoints")
    (folder.target(2, ME) / MANIFEST).unlink()
    found, bad = folder.scan()
    assert [one.name for one in found] == [name_of(1, ME)]
    assert [path for path, _ in bad] == [folder.target(2, ME)]


def test_leftovers_of_ones_own_are_swept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for owner in (ME, OTHER):
        (tmp_path / f".partial-{name_of(3, owner)}").mkdir()
    folder.sweep(ME)
    assert names(folder) == {f".partial-{name_of(3, OTHER)}"}
