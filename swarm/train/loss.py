"""What inner training minimises, a chunk of tokens at a time.

With a vocabulary of 128,256 the fp32 logits of 8192 tokens take 4.2 GB, and their gradient as much again: more than a
layer's activations. Here they exist for one chunk only, and its gradient is computed at once and not kept: what stays
for the backward pass is the gradient of the hidden states and of the output matrix.

Shape suffixes: B samples, L sequence length, D model width, V vocabulary, N tokens of a chunk, T all tokens.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2048
"""Tokens, unless told otherwise: with that vocabulary their logits take 1 GB, and all that is made of them 4."""


def summed_loss(
    hidden_BLD: Tensor, weight_VD: Tensor, targets_BL: Tensor, z_loss: float = 0.0, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Of the logits hidden x weight, summed over the targets, fp32: (cross-entropy in nats, what is to be minimised).

    Logits are computed in the dtype of `hidden_BLD` and everything after that in fp32; gradients of the matrix are
    added over chunks in fp32. Sums, not means: the caller divides by the targets of the whole batch, of which these may
    be a part. The first is to be reported and has no gradient.

    Max-z-loss (Baichuan 2, arXiv:2309.10305; INTELLECT-1, arXiv:2412.01152) adds z_loss x (largest logit)^2 of each
    token: it keeps logits small, lest bf16 loses them.
    """
    differentiate = torch.is_grad_enabled() and (hidden_BLD.requires_grad or weight_VD.requires_grad)
    hidden_TD, targets_T = hidden_BLD.flatten(0, -2), targets_BL.flatten()
    losses: tuple[Tensor, Tensor] = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]
        hidden_TD, weight_VD, targets_T, z_loss, chunk, differentiate
    )
    return losses


class _ChunkedLoss(torch.autograd.Function):
    """Gradients are computed with the loss, and only scaled in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        weight_VD: Tensor,
        targets_T: Tensor,
        z_loss: float,
        chunk: int,
        differentiate: bool,
    ) -> tuple[Tensor, Tensor]:
        nats = torch.zeros((), device=hidden_TD.device)
        minimised = torch.zeros_like(nats)
        grad_TD = torch.empty_like(hidden_TD) if differentiate else None
        grad_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if differentiate else None
        for start in range(0, len(hidden_TD), chunk):
            hidden_ND, targets_N = hidden_TD[start : start + chunk], targets_T[start : start + chunk]
            of_chunk = _Chunk(F.linear(hidden_ND, weight_VD).float(), targets_N, z_loss)
            nats += of_chunk.nats
            minimised += of_chunk.minimised
            if grad_TD is not None and grad_VD is not None:
                slope_NV = of_chunk.slope().to(hidden_ND.dtype)
                torch.mm(slope_NV, weight_VD, out=grad_TD[start : start + chunk])
                if slope_NV.dtype == torch.float32:
                    grad_VD.addmm_(slope_NV.T, hidden_ND)
                else:
                    grad_VD += slope_NV.T @ hidden_ND
                del slope_NV
            del of_chunk  # before there is a next one
        if grad_TD is not None and grad_VD is not None:
            ctx.save_for_backward(grad_TD, grad_VD.to(weight_VD.dtype))
        ctx.mark_non_differentiable(nats)
        return nats, minimised

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        grad_TD, grad_VD = ctx.saved_tensors
        scale = slopes[1]
        return grad_TD * scale.to(grad_TD.dtype), grad_VD * scale.to(grad_VD.dtype), None, None, None, None


class _Chunk:
    """The summed losses of some logits (fp32), and their slope there."""

    def __init__(self, logits_NV: Tensor, targets_N: Tensor, z_loss: float) -> None:
        self._z_loss = z_loss
        with torch.enable_grad():
            self._logits_NV = logits_NV.detach().requires_grad_()
            self._entropy = F.cross_entropy(self._logits_NV, targets_N, reduction="sum")
        self.nats = self.minimised = self._entropy.detach()
        if z_loss:
            self._largest_N, self._where_N = logits_NV.max(dim=-1)
            self.minimised = self.nats + z_loss * self._largest_N.square().sum()

    def slope(self) -> Tensor:
        """Of `minimised`; once."""
        (slope_NV,) = torch.autograd.grad(self._entropy, self._logits_NV)
        if self._z_loss:
            rows_N = torch.arange(len(slope_NV), device=slope_NV.device)
            slope_NV[rows_N, self._where_N] += 2.0 * self._z_loss * self._largest_N
        return slope_NV
