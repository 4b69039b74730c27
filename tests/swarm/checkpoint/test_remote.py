"""Checkpoints in a remote store: there when whole, back when needed, and a bad store is one clear line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from swarm.checkpoint.folder import CheckpointFolder, Keep, name_of
from swarm.checkpoint.manifest import MANIFEST
from swarm.checkpoint.remote import NoSuchStore, RemoteStore
from tests.p2p.protocol.records import peer
from tests.swarm.checkpoint.saved import ME, world


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    place = f"memory://{uuid4().hex}/run" if request.param == "memory" else f"file://{tmp_path}/remote/run"
    yield place
    files, root = fsspec.core.url_to_fs(place)
    if files.exists(root):
        files.rm(root, recursive=True)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_checkpoint_goes_there_and_comes_back(tmp_path: Path, url: str) -> None:
    store = RemoteStore(url)
    assert store.scan() == []
    with world(tmp_path, 3) as run:
        path, manifest = run.save()
    store.upload(path)
    [found] = store.scan()
    assert (found.name, found.manifest) == (path.name, manifest)
    other = CheckpointFolder(tmp_path / "other")
    back = store.download(found, other)
    assert contents(back) == contents(path)
    assert [one.manifest for one in other.scan()[0]] == [manifest]
    store.upload(path)
    store.download(found, other)
    assert contents(back) == contents(path)


def test_the_manifest_goes_last_and_is_taken_away_first(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RemoteStore(url)
    with world(tmp_path, 3) as run:
        path, _ = run.save()
    store.upload(path)
    put, sent = store._files.put_file, list[str]()

    def broken(local: str, remote: str) -> None:
        assert store.scan() == []
        sent.append(Path(remote).name)
        put(local, remote)

    monkeypatch.setattr(store._files, "put_file", broken)
    store.upload(path)
    assert sent[-1] == MANIFEST
    assert set(sent) == set(contents(path))


def test_the_newest_of_ones_own_stay(tmp_path: Path, url: str) -> None:
    store = RemoteStore(url)
    for round in (1, 2, 3, 4):
        with world(tmp_path, round) as run:
            store.upload(run.save()[0])
    with world(tmp_path, 1) as run:
        store.upload(run.save(peer(2))[0])
    store.prune(Keep(newest=1, every=2), ME)
    assert {one.name for one in store.scan()} == {name_of(4, ME), name_of(2, ME), name_of(1, peer(2))}


def test_what_is_no_manifest_is_no_checkpoint(tmp_path: Path, url: str) -> None:
    store = RemoteStore(url)
    with world(tmp_path, 3) as run:
        store.upload(run.save()[0])
    store._files.pipe_file(f"{store._root}/{name_of(3, ME)}/{MANIFEST}", b"{}")
    assert store.scan() == []


def test_a_store_that_cannot_be_used_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoSuchStore, match=r"checkpoint_url 'no-such-thing://x/y'.*give another URL"):
        RemoteStore("no-such-thing://x/y")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(NoSuchStore, match=r"s3fs.*install"):
        RemoteStore("s3://bucket/run")
