"""Manifests come back as they were, and name nothing outside their folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarm.checkpoint.flat_file import BadFile
from swarm.checkpoint.manifest import MANIFEST, parse_manifest, read_manifest
from tests.swarm.checkpoint.saved import LAYOUT, ME, world


def test_a_manifest_says_what_was_saved(tmp_path: Path) -> None:
    with world(tmp_path, 3) as run:
        path, manifest = run.save()
        assert read_manifest(path) == manifest
        assert (manifest.round, manifest.tokens_total, manifest.parameters) == (3, 1200, LAYOUT.count)
        assert manifest.head == run.chain.tip.head.hex()
        assert manifest.peer == ME
        assert manifest.bytes == sum(f.stat().st_size for f in path.iterdir() if f.name != MANIFEST)
        assert manifest.inner is not None
        assert manifest.inner.steps == 30


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 2}, "format"),
        ({"round": -2}, "round"),
        ({"head": "zz"}, "head"),
        ({"extra": 1}, "extra"),
        ({"tokens_total": 7}, "damaged"),
        ({"seal": ""}, "damaged"),
        ({"files": {"../../etc/passwd": {"bytes": 1, "blake3": "0" * 64}}}, "files"),
    ],
)
def test_other_manifests_are_refused(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    with world(tmp_path, 1) as run:
        path, _ = run.save()
    fields = json.loads((path / MANIFEST).read_text()) | change
    with pytest.raises(BadFile, match=complaint):
        parse_manifest(json.dumps(fields).encode())


def test_a_manifest_without_a_file_that_is_needed_is_refused(tmp_path: Path) -> None:
    with world(tmp_path, 1) as run:
        _, manifest = run.save()
    bare = manifest.model_copy(update={"files": {}}).sealed()
    with pytest.raises(BadFile, match="does not list theta"):
        parse_manifest(bare.model_dump_json().encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\x00", b"x" * (2 << 20)])
def test_garbage_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(data)
    with pytest.raises(BadFile):
        read_manifest(tmp_path)


def test_a_folder_without_one_was_never_finished(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="never finished"):
        read_manifest(tmp_path)
