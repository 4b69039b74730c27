"""Small sources and readers for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from swarm.data.mix import parse_mix
from swarm.data.reader import Reader
from swarm.data.source import ArrayTokens, Source, TokenArray
from swarm.data.tokenizer import BYTES, EOS, VOCABULARY


def source_of(train_N: TokenArray, held_out_N: TokenArray | None = None, name: str = "text", eos: int = EOS) -> Source:
    held_out = ArrayTokens(train_N[:0] if held_out_N is None else held_out_N)
    return Source(name, ArrayTokens(train_N), held_out, VOCABULARY, eos, tokenizer=BYTES, digest=name)


def reader_of(*sources: Source, mix: str = "", sequence_length: int = 16, seed: int = 0) -> Reader:
    return Reader(
        {source.name: source for source in sources},
        parse_mix(mix or ", ".join(source.name for source in sources)),
        sequence_length,
        seed,
    )


def counted(length: int) -> NDArray[np.uint32]:
    """Tokens that are their own places, so that a window shows where it was taken."""
    return np.arange(length, dtype=np.uint32)


def joined(documents: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Documents with their ends."""
    return np.concatenate([np.append(document, np.uint8(EOS)) for document in documents])
