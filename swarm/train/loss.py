"""What inner training minimises.

Shape suffixes: B samples, L sequence length, V vocabulary.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def summed_loss(logits_BLV: Tensor, targets_BL: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the targets, in fp32 whatever the model computes in.

    A sum, not a mean: the caller divides by the targets of the whole batch, of which this may be a part.
    """
    return F.cross_entropy(logits_BLV.float().flatten(0, 1), targets_BL.flatten(), reduction="sum")
