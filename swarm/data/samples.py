"""Which window of the tokens a global sample index means.

Shape suffixes: N tokens of the data set, B samples of a batch, L sequence length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2p.errors import SwarmError
from swarm.data.permutation import Permutation


class TooLittleData(SwarmError):
    """The data set is shorter than one sample."""


class Samples:
    """Windows of sequence_length tokens, laid end to end and shuffled anew in each epoch.

    Neighbouring windows share one token: the last target of one is the first input of the next, so an epoch predicts
    every token but the first, and drops fewer than sequence_length at the end.
    """

    def __init__(self, tokens_N: NDArray[np.uint8], sequence_length: int, seed: int) -> None:
        self.tokens_N, self.sequence_length, self.seed = tokens_N, sequence_length, seed
        self.per_epoch = (tokens_N.size - 1) // sequence_length
        if self.per_epoch < 1:
            raise TooLittleData(
                f"the data set has {tokens_N.size} tokens, fewer than one sample: "
                f"lower sequence_length (now {sequence_length}) or use more data"
            )
        self._permutation = Permutation(self.per_epoch, seed)
        self._epoch = 0

    def window_start(self, index: int) -> int:
        """Where the sample of that global index (0, 1, 2, ... without end) begins in the tokens."""
        epoch, position = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            self._permutation, self._epoch = Permutation(self.per_epoch, self.seed, epoch), epoch
        return self._permutation(position) * self.sequence_length

    def batch(self, indices: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(inputs_BL, targets_BL) of these global sample indices; each target is the token after its input."""
        starts_B = np.array([self.window_start(index) for index in indices], dtype=np.int64)
        return windows(self.tokens_N, starts_B, self.sequence_length)


def windows(
    tokens_N: NDArray[np.uint8], starts_B: NDArray[np.int64], sequence_length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(inputs_BL, targets_BL) of the windows that begin at starts_B."""
    text_BL = tokens_N[starts_B[:, None] + np.arange(sequence_length + 1)].astype(np.int64)
    return text_BL[:, :-1], text_BL[:, 1:]


def evaluation_starts(token_count: int, sequence_length: int, most_tokens: int) -> NDArray[np.int64]:
    """Starts of the windows a held-out loss is taken over: spread evenly, no overlap, most_tokens at most."""
    available = (token_count - 1) // sequence_length
    if available < 1:
        raise TooLittleData(
            f"the held-out part has {token_count} tokens, fewer than one sample: "
            f"lower sequence_length (now {sequence_length})"
        )
    used = min(available, max(1, most_tokens // sequence_length))
    return np.arange(used, dtype=np.int64) * available // used * sequence_length
