"""`swarm data verify`: whether prepared data is what its manifest says, to the last byte.

Shape suffixes: N tokens, D documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ops.digest import digest, digest_chunks, root
from swarm.data.folder import Folder
from swarm.data.manifest import BLOCK_BYTES, DTYPES, TOKENIZER, Manifest, Shard
from swarm.data.shards import read_manifest
from swarm.data.source import DataError
from swarm.data.tokenizer import BYTES


def verify(folder: Folder, progress: Callable[[str], None] = lambda _: None) -> Iterator[str]:
    """A line for everything that is wrong. progress hears each shard's name. Raises DataError without a manifest."""
    manifest = read_manifest(folder)
    if manifest.tokenizer.digest != BYTES:
        yield from _reported(partial(_check_tokenizer, folder, manifest))
    for shard in (*manifest.train.shards, *manifest.held_out.shards):
        progress(shard.name)
        yield from _reported(partial(_check_shard, folder, manifest, shard))


def _reported(check: Callable[[], None]) -> Iterator[str]:
    try:
        check()
    except DataError as error:
        yield str(error)


def _check_tokenizer(folder: Folder, manifest: Manifest) -> None:
    if digest(folder.read(TOKENIZER)).hex() != manifest.tokenizer.digest:
        raise DataError(f"{TOKENIZER} is not the one that the data was prepared with")


def _check_shard(folder: Folder, manifest: Manifest, shard: Shard) -> None:
    """Digests first, then that the ends of documents are where the tokens say they are."""
    data = folder.read(shard.tokens_file)
    blocks = digest_chunks(data, BLOCK_BYTES)
    if root(blocks).hex() != shard.tokens_digest:
        raise DataError(f"{shard.tokens_file} has other bytes than when it was prepared")
    if folder.read(shard.blocks_file) != b"".join(blocks):
        raise DataError(f"{shard.blocks_file} does not belong to {shard.tokens_file}")
    ends = folder.read(shard.ends_file)
    if digest(ends).hex() != shard.ends_digest:
        raise DataError(f"{shard.ends_file} has other bytes than when it was prepared")
    tokens_N, ends_D = np.frombuffer(data, dtype=DTYPES[manifest.dtype]), np.frombuffer(ends, dtype="<u8")
    if (tokens_N.size, ends_D.size) != (shard.tokens, shard.documents):
        raise DataError(f"{shard.name} has other numbers of tokens and documents than its manifest says")
    if not np.array_equal(np.flatnonzero(tokens_N == manifest.tokenizer.eos) + 1, ends_D):
        raise DataError(f"{shard.name}: documents do not end where {shard.ends_file} says")
    if tokens_N.max() >= manifest.tokenizer.vocabulary:
        raise DataError(f"{shard.name} holds tokens that its tokenizer does not have")
