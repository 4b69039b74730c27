"""Samples ready for a model: inputs, targets, and which document each input belongs to.

Documents are packed end to end, so a sample holds the end of one, some whole ones and the beginning of another, and no
token is dropped or padded. The token that ends a document belongs to it; its target is the first token of the next,
as in torchtitan and Megatron: that is how a model learns how documents begin. So each input has a target, every loss is
a plain mean, and a batch trains on exactly B x L tokens.

Shape suffixes: N tokens, B samples of a batch, L sequence length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swarm.data.source import TokenArray


@dataclass(frozen=True, slots=True)
class Batch:
    """inputs_BL, targets_BL: int64. documents_BL: int32, counted from 0 in each sample, or None where every sample lies
    within one document, which spares the model a mask. indices: the global sample indices; empty for held-out text."""

    inputs_BL: NDArray[np.int64]
    targets_BL: NDArray[np.int64]
    documents_BL: NDArray[np.int32] | None
    indices: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        return self.inputs_BL.size

    def __len__(self) -> int:
        """Samples."""
        return len(self.inputs_BL)

    def rows(self, start: int, stop: int) -> Batch:
        """The samples [start, stop): a share, or a micro-batch."""
        documents_BL = None if self.documents_BL is None else self.documents_BL[start:stop]
        return Batch(self.inputs_BL[start:stop], self.targets_BL[start:stop], documents_BL, self.indices[start:stop])


def packed(windows: Sequence[TokenArray], eos: int, indices: tuple[int, ...] = ()) -> Batch:
    """The batch of these windows of L + 1 tokens each."""
    text_BL = np.stack(windows).astype(np.int64)
    inputs_BL, targets_BL = text_BL[:, :-1], text_BL[:, 1:]
    return Batch(inputs_BL, targets_BL, _documents(inputs_BL, eos), indices)


def _documents(inputs_BL: NDArray[np.int64], eos: int) -> NDArray[np.int32] | None:
    ends_BL = inputs_BL[:, :-1] == eos  # an end at the last place begins no document in this sample
    if not ends_BL.any():
        return None
    documents_BL = np.zeros(inputs_BL.shape, dtype=np.int32)
    np.cumsum(ends_BL, axis=1, out=documents_BL[:, 1:])
    return documents_BL
