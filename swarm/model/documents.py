"""Samples packed from several documents: positions that restart, and a mask that keeps documents apart.

A document id is any number that never falls along a sample and is the same for the tokens of one document.

Shape suffixes: B batch, L sequence, Q and K its blocks of queries and of keys, N heads, H head size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128
"""Side of a block in FlexAttention's kernels."""

Mask = Tensor | BlockMask | None
"""True where attention may look, B x 1 x L x L; as blocks; or None for a plain causal mask."""


def positions(documents_BL: Tensor) -> Tensor:
    """int64, B x L: how far each token is from the first token of its document in this sample."""
    index_L = torch.arange(documents_BL.shape[1], device=documents_BL.device)
    begins_BL = torch.ones_like(documents_BL, dtype=torch.bool)
    begins_BL[:, 1:] = documents_BL[:, 1:] != documents_BL[:, :-1]
    return index_L - torch.where(begins_BL, index_L, 0).cummax(dim=1).values


def document_mask(documents_BL: Tensor) -> Mask:
    """Each token sees itself and what is before it in its own document: the same mask in the form the device wants."""
    return block_mask(documents_BL) if documents_BL.is_cuda else dense_mask(documents_BL)


def dense_mask(documents_BL: Tensor) -> Tensor:
    """bool, B x 1 x L x L."""
    same_BLL = documents_BL[:, :, None] == documents_BL[:, None, :]
    return same_BLL.tril()[:, None]


def block_mask(documents_BL: Tensor) -> BlockMask:
    """For FlexAttention. Which blocks hold anything follows from the first and last document of each, so that no
    L x L mask is ever made; only blocks at a border (of a document, or the diagonal) are masked token by token."""
    length = documents_BL.shape[1]
    blocks = -(-length // BLOCK)
    filled_BL = F.pad(documents_BL, (0, blocks * BLOCK - length), value=torch.iinfo(documents_BL.dtype).max)
    first_BQ, last_BQ = filled_BL[:, ::BLOCK], filled_BL[:, BLOCK - 1 :: BLOCK]
    earlier_QK = torch.ones(blocks, blocks, dtype=torch.bool, device=documents_BL.device).tril()
    some_BQK = earlier_QK & (last_BQ[:, None, :] >= first_BQ[:, :, None])
    full_BQK = earlier_QK.tril(-1) & (first_BQ[:, None, :] == last_BQ[:, :, None])

    def visible(b: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (documents_BL[b, query] == documents_BL[b, key])

    return BlockMask.from_kv_blocks(
        *_listed(some_BQK & ~full_BQK),
        *_listed(full_BQK),
        BLOCK_SIZE=BLOCK,
        mask_mod=visible,
        seq_lengths=(length, length),
    )


def _listed(blocks_BQK: Tensor) -> tuple[Tensor, Tensor]:
    """(count of the True in each row, their places first in a row), with a dimension for heads."""
    counts_BQ = blocks_BQK.sum(dim=-1, dtype=torch.int32)
    places_BQK = blocks_BQK.to(torch.int8).argsort(dim=-1, descending=True, stable=True).to(torch.int32)
    return counts_BQ[:, None], places_BQK[:, None]


def attend(q_BNLH: Tensor, k_BNLH: Tensor, v_BNLH: Tensor, mask: Mask) -> Tensor:
    """Scaled dot-product attention under that mask; groups of query heads may share a key and value head."""
    grouped = q_BNLH.shape[1] != k_BNLH.shape[1]
    if isinstance(mask, BlockMask):
        # Where the layer is compiled, the kernel is made there. Uncompiled, as on a CPU, the whole L x L matrix is.
        compiled = q_BNLH.is_cuda and not torch.compiler.is_compiling()
        flex: Any = _compiled_flex_attention() if compiled else flex_attention
        mixed_BNLH: Tensor = flex(q_BNLH, k_BNLH, v_BNLH, block_mask=mask, enable_gqa=grouped)
        return mixed_BNLH
    return F.scaled_dot_product_attention(
        q_BNLH, k_BNLH, v_BNLH, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped
    )


@functools.cache
def _compiled_flex_attention() -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(flex_attention)
    return compiled
