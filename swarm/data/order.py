"""In which order the windows of one source become samples.

The tokens of a source are read round and round, as one endless text, and window w is its tokens [w L, (w + 1) L). So
nothing is dropped: what is left over at the end of one epoch is the first part of a window that ends in the next.
"""

from __future__ import annotations

import functools
import hashlib

from swarm.data.permutation import Permutation
from swarm.data.source import DataError


class TooLittleData(DataError):
    """A source is shorter than one sample."""


class WindowOrder:
    """Maps the position of a sample among those drawn from its source to the token at which it begins.

    Epoch e is the windows that begin in the source's e-th turn; each epoch has a shuffle of its own, seeded by the
    run's seed and the source's name. Any position may be asked for at any time, from any thread.
    """

    def __init__(self, name: str, tokens: int, sequence_length: int, seed: int) -> None:
        if tokens < sequence_length:
            raise TooLittleData(
                f"the data of {name} has {tokens} tokens, fewer than one sample: "
                f"lower sequence_length (now {sequence_length}) or use more data"
            )
        self.tokens, self.sequence_length = tokens, sequence_length
        self._seed = int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")

    def begin(self, position: int) -> int:
        """Where the sample begins, 0 <= begin < tokens; its last tokens may lie in the next turn."""
        epoch = position * self.sequence_length // self.tokens
        first, stop = self._first_window(epoch), self._first_window(epoch + 1)
        window = first + _permutation(stop - first, self._seed, epoch)(position - first)
        return window * self.sequence_length % self.tokens

    def _first_window(self, epoch: int) -> int:
        """The first window that begins at or after the beginning of that turn."""
        return -(-epoch * self.tokens // self.sequence_length)


_permutation = functools.lru_cache(maxsize=256)(Permutation)
