"""What a run can draw samples from: tokens to train on, tokens never trained on, and the digest of both.

Shape suffix: N tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from p2p.errors import SwarmError

TokenArray = NDArray[np.unsignedinteger[Any]]
"""uint8, uint16 or uint32."""


class DataError(SwarmError):
    """Training data cannot be read, is not what its manifest says, or does not fit the run."""


class Tokens(Protocol):
    """A long row of tokens that is read in stretches; from several threads at a time."""

    @property
    def count(self) -> int: ...

    def read(self, start: int, stop: int) -> TokenArray:
        """The tokens [start, stop), 0 <= start <= stop <= count. Raises DataError if they cannot be had."""
        ...


class ArrayTokens:
    """Tokens that are in memory, or mapped into it."""

    def __init__(self, tokens_N: TokenArray) -> None:
        self.tokens_N, self.count = tokens_N, tokens_N.size

    def read(self, start: int, stop: int) -> TokenArray:
        return self.tokens_N[start:stop]


@dataclass(frozen=True, slots=True)
class Source:
    name: str
    train: Tokens
    held_out: Tokens
    vocabulary: int
    eos: int
    """The token that ends each document and occurs nowhere else."""
    tokenizer: str
    """Its digest, in hex, or the name of a built-in one: all sources of a run have the same."""
    digest: str
    """Of all tokens and of all that is said of them, in hex."""


def read_round(tokens: Tokens, start: int, length: int) -> TokenArray:
    """`length` tokens from `start` on of the endless text that tokens make when they are read round and round."""
    start %= tokens.count
    parts = []
    while length:
        stop = min(start + length, tokens.count)
        parts.append(tokens.read(start, stop))
        length -= stop - start
        start = 0
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
