"""Prepared data as a source: shards mapped into memory, or read in checked blocks from where they lie.

Shape suffix: N tokens.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np

from ops.digest import SIZE, root
from swarm.data.block_cache import BlockCache
from swarm.data.folder import Folder
from swarm.data.manifest import BLOCK_BYTES, DTYPES, MANIFEST, Manifest, Shard, Split, parse_manifest
from swarm.data.source import DataError, Source, TokenArray, Tokens

Stretch = Callable[[Shard, int, int], TokenArray]
"""Reads the tokens [start, stop) of one shard."""


def read_manifest(folder: Folder) -> Manifest:
    """Raises DataError."""
    try:
        text = folder.read(MANIFEST)
    except DataError as error:
        raise DataError(f"{error}: `swarm data prepare` makes such folders, and writes that file last") from None
    return parse_manifest(text, f"{folder.url}/{MANIFEST}")


def open_shards(name: str, folder: Folder, cache: BlockCache | None) -> Source:
    """The data in that folder. Raises DataError.

    On this machine the shards' sizes are checked, their digests are not: that is for `swarm data verify`. Elsewhere
    every block is checked when it comes, and kept in `cache`.
    """
    manifest = read_manifest(folder)
    if folder.local is not None:
        stretch: Stretch = _Mapped(folder.local, manifest)
    else:
        assert cache is not None, "data that lies elsewhere needs a cache"
        stretch = _Fetched(folder, manifest, cache)
    return Source(
        name=name,
        train=_tokens(manifest.train, stretch),
        held_out=_tokens(manifest.held_out, stretch),
        vocabulary=manifest.tokenizer.vocabulary,
        eos=manifest.tokenizer.eos,
        tokenizer=manifest.tokenizer.digest,
        digest=manifest.digest,
    )


def _tokens(split: Split, stretch: Stretch) -> Tokens:
    return ShardedTokens(split.shards, stretch)


class ShardedTokens:
    """The tokens of all shards, one after the other."""

    def __init__(self, shards: Sequence[Shard], stretch: Stretch) -> None:
        self._shards, self._stretch = shards, stretch
        self._begins = [0, *accumulate(shard.tokens for shard in shards)]

    @property
    def count(self) -> int:
        return self._begins[-1]

    def read(self, start: int, stop: int) -> TokenArray:
        assert 0 <= start < stop <= self.count, "a stretch within the tokens"
        parts = []
        number = bisect_right(self._begins, start) - 1
        while start < stop:
            begin, end = self._begins[number], min(self._begins[number + 1], stop)
            parts.append(self._stretch(self._shards[number], start - begin, end - begin))
            start, number = end, number + 1
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Mapped:
    """Shards on this machine."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path, self._dtype = path, DTYPES[manifest.dtype]
        self._maps: dict[str, TokenArray] = {}
        for shard in (*manifest.train.shards, *manifest.held_out.shards):
            file = path / shard.tokens_file
            size = file.stat().st_size if file.exists() else 0
            if size != shard.tokens * self._dtype.itemsize:
                raise DataError(
                    f"{file} has {size} bytes where its manifest says {shard.tokens * self._dtype.itemsize}: "
                    "copy the data again; `swarm data verify` checks all of it"
                )

    def __call__(self, shard: Shard, start: int, stop: int) -> TokenArray:
        if (tokens_N := self._maps.get(shard.name)) is None:
            tokens_N = np.memmap(self._path / shard.tokens_file, dtype=self._dtype, mode="r")
            self._maps[shard.name] = tokens_N
        return tokens_N[start:stop]


class _Fetched:
    """Shards that lie elsewhere."""

    def __init__(self, folder: Folder, manifest: Manifest, cache: BlockCache) -> None:
        self._folder, self._dtype, self._cache = folder, DTYPES[manifest.dtype], cache
        self._digests = lru_cache(maxsize=None)(self._read_digests)

    def __call__(self, shard: Shard, start: int, stop: int) -> TokenArray:
        first, last = start * self._dtype.itemsize, stop * self._dtype.itemsize
        blocks = range(first // BLOCK_BYTES, -(-last // BLOCK_BYTES))
        data = b"".join(self._block(shard, number) for number in blocks)
        skipped = blocks.start * BLOCK_BYTES
        return np.frombuffer(data, dtype=self._dtype, offset=first - skipped, count=stop - start)

    def _block(self, shard: Shard, number: int) -> bytes:
        begin = number * BLOCK_BYTES
        end = min(begin + BLOCK_BYTES, shard.tokens * self._dtype.itemsize)
        try:
            return self._cache.block(
                self._digests(shard)[number], lambda: self._folder.read(shard.tokens_file, begin, end)
            )
        except DataError as error:
            raise DataError(f"{self._folder.url}/{shard.tokens_file}: {error}") from None

    def _read_digests(self, shard: Shard) -> list[bytes]:
        data = self._folder.read(shard.blocks_file)
        digests = [data[start : start + SIZE] for start in range(0, len(data), SIZE)]
        expected = -(-shard.tokens * self._dtype.itemsize // BLOCK_BYTES)
        if len(data) != expected * SIZE or root(digests).hex() != shard.tokens_digest:
            raise DataError(f"{shard.blocks_file} is not the one of this manifest: the data was changed")
        return digests
