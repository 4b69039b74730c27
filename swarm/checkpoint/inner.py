"""The inner optimizer of one node as a checkpoint keeps it: the same whatever the node's sharding.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ops.layout import Entry, FlatLayout


@dataclass(frozen=True, slots=True)
class InnerState:
    """vectors: what the optimizer keeps for each parameter (AdamW: `exp_avg`, `exp_avg_sq`), each a flat vector in the
    layout of theta; steps: optimizer steps taken."""

    vectors: dict[str, NDArray[np.float32]]
    steps: int


def inner_layout(names: Sequence[str], model: FlatLayout) -> FlatLayout:
    """How these vectors, one after the other, are named in a file: `exp_avg/embedding.weight`, ..."""
    return FlatLayout(
        tuple(
            Entry(f"{name}/{entry.name}", entry.shape, start + entry.start, start + entry.stop)
            for start, name in zip(range(0, len(names) * model.count, model.count), names, strict=True)
            for entry in model.entries
        )
    )
