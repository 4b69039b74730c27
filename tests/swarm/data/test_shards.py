from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray

from swarm.data.block_cache import BlockCache
from swarm.data.folder import Folder
from swarm.data.manifest import DTYPES, Manifest
from swarm.data.shards import open_shards
from swarm.data.source import DataError
from swarm.data.tokenizer import load_tokenizer
from tests.swarm.data.prepared import TEXTS, elsewhere, prepared, trained_tokenizer


def train_tokens(folder: Path, manifest: Manifest) -> NDArray[np.uint32]:
    files = [np.fromfile(folder / shard.tokens_file, DTYPES[manifest.dtype]) for shard in manifest.train.shards]
    return np.concatenate(files)


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_any_stretch_is_the_same_mapped_and_fetched(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.data.shard_writer.BLOCK_BYTES", 1000)
    monkeypatch.setattr("swarm.data.shards.BLOCK_BYTES", 1000)
    name = "bytes" if kind == "bytes" else str(trained_tokenizer(tmp_path / "tokenizer.json"))
    manifest = prepared(tmp_path / "data", tokenizer=load_tokenizer(name), shard_tokens=2500)
    assert len(manifest.train.shards) > 2
    whole_N = train_tokens(tmp_path / "data", manifest)
    mapped = open_shards("data", Folder(str(tmp_path / "data")), None)
    fetched = open_shards("data", Folder(elsewhere(tmp_path / "data")), BlockCache(tmp_path / "cache", 20_000))
    assert mapped.train.count == fetched.train.count == whole_N.size
    assert (mapped.digest, mapped.eos, mapped.vocabulary) == (fetched.digest, fetched.eos, fetched.vocabulary)
    random = np.random.default_rng(0)
    for start, stop in [(0, whole_N.size), *np.sort(random.integers(0, whole_N.size, (100, 2))).tolist()]:
        if start < stop:
            assert (mapped.train.read(start, stop) == whole_N[start:stop]).all()
            assert (fetched.train.read(start, stop) == whole_N[start:stop]).all()


def test_shards_that_were_cut_are_noticed_at_once(tmp_path: Path) -> None:
    manifest = prepared(tmp_path / "data")
    file = tmp_path / "data" / manifest.train.shards[1].tokens_file
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{file.name} has \d+ bytes where its manifest says.*copy the data again"):
        open_shards("data", Folder(str(tmp_path / "data")), None)
    file.unlink()
    with pytest.raises(DataError, match="has 0 bytes"):
        open_shards("data", Folder(str(tmp_path / "data")), None)


@pytest.mark.parametrize("suffix", ["tokens", "blocks"])
def test_data_that_was_changed_elsewhere_is_refused_and_named(tmp_path: Path, suffix: str) -> None:
    manifest = prepared(tmp_path / "data")
    url = elsewhere(tmp_path / "data")
    fs, root = fsspec.core.url_to_fs(url)
    name = f"{root}/{manifest.train.shards[0].name}.{suffix}"
    data = bytearray(fs.cat_file(name))
    data[5] ^= 1
    fs.pipe_file(name, bytes(data))
    source = open_shards("data", Folder(url), BlockCache(tmp_path / "cache", 20_000))
    with pytest.raises(DataError, match=r"train-00000\.tokens: .*was changed"):
        source.train.read(0, 10)


def test_a_folder_without_a_manifest_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.json in .*swarm data prepare"):
        open_shards("data", Folder(str(tmp_path)), None)


def test_documents_are_what_was_put_in(tmp_path: Path) -> None:
    prepared(tmp_path / "data", held_out=0.2)
    source = open_shards("data", Folder(str(tmp_path / "data")), None)
    texts = []
    for tokens in (source.train, source.held_out):
        parts = bytes(tokens.read(0, tokens.count)).split(b"\xff")
        assert parts.pop() == b""
        texts += [part.decode() for part in parts]
    assert sorted(texts) == sorted(TEXTS)
