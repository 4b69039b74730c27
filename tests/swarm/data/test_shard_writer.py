from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.digest import digest_chunks, root
from swarm.data.manifest import BLOCK_BYTES, DTYPES, DType
from swarm.data.shard_writer import ShardWriter


@settings(max_examples=20)  # each waits for the disk
@given(st.lists(st.integers(1, 60), max_size=12), st.integers(1, 100), st.sampled_from(["u8", "u16", "u32"]))
def test_documents_come_back_in_order_and_none_is_cut(sizes: list[int], shard_tokens: int, dtype: DType) -> None:
    documents = [np.full(size, number % 200, dtype=np.uint32) for number, size in enumerate(sizes)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = ShardWriter(folder, "train", dtype, shard_tokens)
        for document_N in documents:
            writer.add(document_N)
        split = writer.close()
        assert (split.tokens, split.documents) == (sum(sizes), len(sizes))
        found = []
        for number, shard in enumerate(split.shards):
            assert shard.name == f"train-{number:05d}"
            assert shard.tokens >= shard_tokens or number == len(split.shards) - 1
            tokens_N = np.fromfile(folder / shard.tokens_file, dtype=DTYPES[dtype])
            ends = np.fromfile(folder / shard.ends_file, dtype="<u8")
            assert ends[-1] == tokens_N.size == shard.tokens
            found += np.split(tokens_N, ends[:-1].astype(np.int64))
        assert [document_N.tolist() for document_N in found] == [document_N.tolist() for document_N in documents]


def test_every_block_has_its_digest(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "train", "u32", 1 << 30)
    writer.add(np.arange(BLOCK_BYTES // 4 * 2 + 5, dtype=np.uint32))
    (shard,) = writer.close().shards
    data = (tmp_path / shard.tokens_file).read_bytes()
    blocks = (tmp_path / shard.blocks_file).read_bytes()
    assert len(blocks) == 3 * 32
    assert b"".join(digest_chunks(data, BLOCK_BYTES)) == blocks
    assert root(digest_chunks(data, BLOCK_BYTES)).hex() == shard.tokens_digest


def test_nothing_written_is_no_shard(tmp_path: Path) -> None:
    assert ShardWriter(tmp_path, "train", "u8", 10).close().shards == ()
    with pytest.raises(AssertionError):
        ShardWriter(tmp_path, "train", "u8", 10).add(np.empty(0, dtype=np.uint8))
