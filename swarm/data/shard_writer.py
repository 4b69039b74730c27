"""Writes documents into shards: a new one begins at the first end of a document after so many tokens.

Shape suffix: N tokens.
"""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import IO

import numpy as np

from ops.digest import digest, digest_chunks, root
from swarm.data.manifest import BLOCK_BYTES, DTYPES, DType, Shard, Split
from swarm.data.source import TokenArray


class ShardWriter:
    """One split. Memory: a file buffer, and 8 bytes for each document of the shard being written."""

    def __init__(self, folder: Path, prefix: str, dtype: DType, shard_tokens: int) -> None:
        self._folder, self._prefix, self._dtype, self._shard_tokens = folder, prefix, DTYPES[dtype], shard_tokens
        self._done: list[Shard] = []
        self._file: IO[bytes] | None = None
        self._ends = array("Q")

    def add(self, document_N: TokenArray) -> None:
        """Append a document, its end included."""
        assert document_N.size, "a document has at least its end"
        if self._file is None:
            self._file = (self._folder / f"{self._name}.tokens").open("wb")
        self._file.write(document_N.astype(self._dtype, copy=False).tobytes())
        self._ends.append((self._ends[-1] if self._ends else 0) + document_N.size)
        if self._ends[-1] >= self._shard_tokens:
            self._finish()

    def close(self) -> Split:
        """All shards, on disk for good."""
        if self._file is not None:
            self._finish()
        return Split(shards=tuple(self._done))

    @property
    def _name(self) -> str:
        return f"{self._prefix}-{len(self._done):05d}"

    def _finish(self) -> None:
        assert self._file is not None
        synced(self._file)
        path = self._folder / f"{self._name}.tokens"
        blocks = digest_chunks(np.memmap(path, dtype=np.uint8, mode="r"), BLOCK_BYTES)
        ends = np.array(self._ends, dtype="<u8").tobytes()
        for file, data in ((path.with_suffix(".blocks"), b"".join(blocks)), (path.with_suffix(".ends"), ends)):
            write_synced(file, data)
        shard = Shard(
            name=self._name,
            tokens=self._ends[-1],
            documents=len(self._ends),
            tokens_digest=root(blocks).hex(),
            ends_digest=digest(ends).hex(),
        )
        self._done.append(shard)
        self._file, self._ends = None, array("Q")


def write_synced(path: Path, data: bytes) -> None:
    synced(path.open("wb"), data)


def synced(file: IO[bytes], data: bytes = b"") -> None:
    """Close a file with its bytes on disk: what a manifest promises must outlive a power cut."""
    with file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
