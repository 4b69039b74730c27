"""From a run's configuration to its sources and its reader."""

from __future__ import annotations

from collections.abc import Mapping

from swarm.config import RunConfig
from swarm.data.embedded import load_embedded
from swarm.data.mix import EMBEDDED, parse_mix
from swarm.data.reader import Reader
from swarm.data.source import DataError, Source
from swarm.model.sizes import SIZES


def open_reader(run: RunConfig) -> Reader:
    """The reader of a run: cheap to make, so every rank has its own. Raises DataError."""
    reader = Reader(open_sources(run.data), parse_mix(run.data), run.sequence_length, run.seed)
    if reader.vocabulary > (vocabulary := SIZES[run.model].vocab):
        raise DataError(
            f"the data has a vocabulary of {reader.vocabulary} tokens, the model {run.model} one of {vocabulary}: "
            "choose another model, or prepare the data with another tokenizer"
        )
    return reader


def open_sources(data: str) -> Mapping[str, Source]:
    """Each source of a mix, by name. Raises DataError."""
    return {name: _open(name) for name in parse_mix(data).names}


def _open(name: str) -> Source:
    if name != EMBEDDED:
        raise DataError(f"there is no data called {name!r}; the built-in data is called {EMBEDDED}")
    return load_embedded()
