"""From a run's configuration to its sources and its reader."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from swarm.config import NodeConfig, RunConfig
from swarm.data.block_cache import BlockCache
from swarm.data.embedded import load_embedded
from swarm.data.folder import Folder
from swarm.data.mix import EMBEDDED, parse_mix
from swarm.data.reader import Reader
from swarm.data.shards import open_shards, read_manifest
from swarm.data.source import DataError, Source
from swarm.model.sizes import SIZES


def open_reader(run: RunConfig, node: NodeConfig | None = None) -> Reader:
    """The reader of a run on this node: cheap to make, so every rank has its own. Raises DataError."""
    node = node or NodeConfig()
    sources = {name: _open(name, node) for name in parse_mix(run.data).names}
    reader = Reader(sources, parse_mix(run.data), run.sequence_length, run.seed)
    if reader.vocabulary > (vocabulary := SIZES[run.model].vocab):
        raise DataError(
            f"the data has a vocabulary of {reader.vocabulary} tokens, the model {run.model} one of {vocabulary}: "
            "choose another model, or prepare the data with another tokenizer"
        )
    return reader


def data_digests(data: str, data_dir: str | None) -> Mapping[str, str]:
    """The digest of each source of a mix, by name: what nodes of a run compare. Raises DataError."""
    return {
        name: load_embedded().digest if name == EMBEDDED else read_manifest(_folder(name, data_dir)).digest
        for name in parse_mix(data).names
    }


def _open(name: str, node: NodeConfig) -> Source:
    if name == EMBEDDED:
        return load_embedded()
    folder = _folder(name, node.data_dir)
    cache = None if folder.local else _cache(node.data_cache, int(node.data_cache_gb * 1e9))
    return open_shards(name, folder, cache)


_cache = lru_cache(BlockCache)


def _folder(name: str, data_dir: str | None) -> Folder:
    if data_dir is None:
        raise DataError(f"the run trains on {name}: set data_dir in [node] to where its folder lies")
    return Folder(data_dir) / name
