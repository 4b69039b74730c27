"""A Llama with no parallelism in it: sharding is applied from outside (swarm/train/parallel.py).

Shape suffixes: B batch, L sequence, D model width, N query heads, K key/value heads, H head size, F ffn width,
V vocabulary, R half a head (rotary pairs). Where samples are packed from documents, cosine_LR and sine_LR have rows of
their own for each sample: B x 1 x L x R.

RMSNorm (arXiv:1910.07467), rotary positions (arXiv:2104.09864), grouped queries (arXiv:2305.13245), SwiGLU
(arXiv:2002.05202). Rotary pairs are (i, i + H/2), as in Hugging Face's Llama, so that an export needs no permutation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swarm.model.documents import Mask, attend, document_mask, positions
from swarm.model.sizes import ModelConfig


class Attention(nn.Module):
    """Causal self-attention in which each of K key/value heads serves N / K query heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.query = nn.Linear(config.dim, config.heads * config.head_dim, bias=False)
        self.key = nn.Linear(config.dim, config.kv_heads * config.head_dim, bias=False)
        self.value = nn.Linear(config.dim, config.kv_heads * config.head_dim, bias=False)
        self.output = nn.Linear(config.heads * config.head_dim, config.dim, bias=False)

    def forward(self, x_BLD: Tensor, cosine_LR: Tensor, sine_LR: Tensor, mask: Mask = None) -> Tensor:
        batch, length, _ = x_BLD.shape
        q_BNLH = self.query(x_BLD).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        k_BKLH = self.key(x_BLD).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        v_BKLH = self.value(x_BLD).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        q_BNLH, k_BKLH = rotate(q_BNLH, cosine_LR, sine_LR), rotate(k_BKLH, cosine_LR, sine_LR)
        mixed_BNLH = attend(q_BNLH, k_BKLH, v_BKLH, mask)
        output: Tensor = self.output(mixed_BNLH.transpose(1, 2).reshape(batch, length, self.heads * self.head_dim))
        return output


class FeedForward(nn.Module):
    """SwiGLU: silu(gate(x)) * up(x), projected down."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.dim, config.ffn, bias=False)
        self.up = nn.Linear(config.dim, config.ffn, bias=False)
        self.down = nn.Linear(config.ffn, config.dim, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        output: Tensor = self.down(F.silu(self.gate(x_BLD)) * self.up(x_BLD))
        return output


class Block(nn.Module):
    """One layer: attention, then feed-forward, each on a normalised copy of the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.ffn = FeedForward(config)

    def forward(self, x_BLD: Tensor, cosine_LR: Tensor, sine_LR: Tensor, mask: Mask = None) -> Tensor:
        x_BLD = x_BLD + self.attention(self.attention_norm(x_BLD), cosine_LR, sine_LR, mask)
        output: Tensor = x_BLD + self.ffn(self.ffn_norm(x_BLD))
        return output


class Llama(nn.Module):
    """Tokens (int64, B x L) to logits (B x L x V), or to what `head` makes of the last hidden states (B x L x D) and
    the output matrix (V x D): a loss may not want all logits at once.

    documents_BL (int32, B x L), if given, says which document of its sample each token belongs to, in ascending order:
    then no document sees another, and the positions of each begin at 0.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab, config.dim)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.output = None if config.tied else nn.Linear(config.dim, config.vocab, bias=False)

    def forward(
        self, tokens_BL: Tensor, documents_BL: Tensor | None = None, head: Callable[[Tensor, Tensor], Any] = F.linear
    ) -> Any:
        cosine_LR, sine_LR = rotations(tokens_BL.shape[1], self.config, tokens_BL.device)
        mask: Mask = None
        if documents_BL is not None:
            positions_B1L, mask = positions(documents_BL)[:, None], document_mask(documents_BL)
            cosine_LR, sine_LR = cosine_LR[positions_B1L], sine_LR[positions_B1L]
        x_BLD = self.embedding(tokens_BL)
        for layer in self.layers:
            x_BLD = layer(x_BLD, cosine_LR, sine_LR, mask)
        x_BLD = self.norm(x_BLD)
        weight_VD = self.embedding.weight if self.output is None else self.output.weight
        return head(x_BLD, weight_VD)


def parameter_count(config: ModelConfig) -> int:
    """Values in the flat vector of that size."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Llama(config).parameters())


def rotations(length: int, config: ModelConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine (fp32, L x R) of every position times every rotary frequency.

    Computed anew in each forward: L x R values are nothing beside a layer, and no buffer needs to survive sharding,
    the meta device or a change of the sequence length.
    """
    exponent_R = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=device) / config.head_dim
    frequency_R = config.rope_theta**-exponent_R
    angle_LR = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequency_R)
    return angle_LR.cos(), angle_LR.sin()


def rotate(x_BNLH: Tensor, cosine_LR: Tensor, sine_LR: Tensor) -> Tensor:
    """Turn each pair (i, i + H/2) of every head by its position's angle, in fp32."""
    left_BNLR, right_BNLR = x_BNLH.float().chunk(2, dim=-1)
    turned_BNLH = torch.cat(
        (left_BNLR * cosine_LR - right_BNLR * sine_LR, right_BNLR * cosine_LR + left_BNLR * sine_LR), dim=-1
    )
    return turned_BNLH.to(x_BNLH.dtype)
