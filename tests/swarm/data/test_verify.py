from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ops.digest import digest_chunks, root
from swarm.data.folder import Folder
from swarm.data.manifest import BLOCK_BYTES, MANIFEST
from swarm.data.source import DataError
from swarm.data.tokenizer import load_tokenizer
from swarm.data.verify import verify
from tests.swarm.data.prepared import elsewhere, prepared, trained_tokenizer


def problems(path: Path) -> list[str]:
    return list(verify(Folder(str(path))))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_what_was_prepared_is_in_order_here_and_elsewhere(tmp_path: Path) -> None:
    manifest = prepared(tmp_path / "data")
    seen: list[str] = []
    assert list(verify(Folder(str(tmp_path / "data")), seen.append)) == []
    assert seen == [shard.name for shard in (*manifest.train.shards, *manifest.held_out.shards)]
    assert list(verify(Folder(elsewhere(tmp_path / "data")))) == []


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ("train-00001.tokens", "train-00001.tokens has other bytes"),
        ("train-00001.ends", "train-00001.ends has other bytes"),
        ("train-00000.blocks", "train-00000.blocks does not belong to train-00000.tokens"),
        ("held-out-00000.tokens", "held-out-00000.tokens has other bytes"),
        ("tokenizer.json", "tokenizer.json is not the one"),
    ],
)
def test_one_bit_is_noticed_and_its_file_named(tmp_path: Path, file: str, complaint: str) -> None:
    tokenizer = load_tokenizer(str(trained_tokenizer(tmp_path / "tokenizer.json")))
    prepared(tmp_path / "data", tokenizer=tokenizer, shard_tokens=2000)
    flip(tmp_path / "data" / file, 9)
    (line,) = problems(tmp_path / "data")
    assert line.startswith(complaint)


def test_all_that_is_wrong_is_told(tmp_path: Path) -> None:
    prepared(tmp_path / "data")
    flip(tmp_path / "data" / "train-00000.tokens", 3)
    (tmp_path / "data" / "train-00001.ends").unlink()
    assert len(problems(tmp_path / "data")) == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tokens_N: np.where(np.arange(tokens_N.size) == 2, 255, tokens_N), "documents do not end where"),
        (lambda tokens_N: np.append(tokens_N, 255), "other numbers of tokens and documents"),
    ],
)
def test_digests_that_fit_do_not_excuse_ends_that_do_not(tmp_path: Path, change: object, complaint: str) -> None:
    """As if another program had written the data."""
    (shard,) = prepared(tmp_path / "data", shard_tokens=1 << 20).train.shards
    folder = tmp_path / "data"
    data = change(np.fromfile(folder / shard.tokens_file, np.uint8)).astype(np.uint8).tobytes()  # type: ignore[operator]
    blocks = digest_chunks(data, BLOCK_BYTES)
    (folder / shard.tokens_file).write_bytes(data)
    (folder / shard.blocks_file).write_bytes(b"".join(blocks))
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace(shard.tokens_digest, root(blocks).hex()))
    (line,) = problems(folder)
    assert complaint in line


def test_a_folder_that_was_never_prepared_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.json"):
        problems(tmp_path)
