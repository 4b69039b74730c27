"""Logits of one token after the other: the Llama of swarm.model.llama, remembering keys and values.

Shape suffixes: as in swarm.model.llama, with L the new tokens and T all of them so far; the batch is always 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from swarm.model.llama import Attention, Block, Llama, rotate, rotations


class Decoder:
    """Reads tokens bit by bit; what it has read can be forgotten, not changed."""

    def __init__(self, model: Llama) -> None:
        self.model = model
        self.length = 0
        """Tokens read."""
        self._cache: list[tuple[Tensor, Tensor]] = []

    def forget(self) -> None:
        """Begin with an empty context."""
        self.length, self._cache = 0, []

    @torch.no_grad()
    def read(self, tokens_L: Tensor) -> Tensor:
        """Read more tokens (int64); returns the logits (fp32, V) of what follows them."""
        model = self.model
        start, stop = self.length, self.length + tokens_L.numel()
        cosine_TR, sine_TR = rotations(stop, model.config, tokens_L.device)
        x_BLD = model.embedding(tokens_L[None])
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, Block)
            normed_BLD = layer.attention_norm(x_BLD)
            x_BLD = x_BLD + self._attend(index, layer.attention, normed_BLD, cosine_TR[start:], sine_TR[start:])
            x_BLD = x_BLD + layer.ffn(layer.ffn_norm(x_BLD))
        self.length = stop
        last_D = model.norm(x_BLD[0, -1])
        weight_VD = model.embedding.weight if model.output is None else model.output.weight
        return F.linear(last_D, weight_VD).float()

    def _attend(self, index: int, attention: Attention, x_BLD: Tensor, cosine_LR: Tensor, sine_LR: Tensor) -> Tensor:
        batch, length, _ = x_BLD.shape
        q_BNLH = attention.query(x_BLD).view(batch, length, attention.heads, attention.head_dim).transpose(1, 2)
        k_BKLH = attention.key(x_BLD).view(batch, length, attention.kv_heads, attention.head_dim).transpose(1, 2)
        v_BKLH = attention.value(x_BLD).view(batch, length, attention.kv_heads, attention.head_dim).transpose(1, 2)
        q_BNLH, k_BKTH = rotate(q_BNLH, cosine_LR, sine_LR), rotate(k_BKLH, cosine_LR, sine_LR)
        v_BKTH = v_BKLH
        if index < len(self._cache):
            k_BKTH = torch.cat((self._cache[index][0], k_BKTH), dim=2)
            v_BKTH = torch.cat((self._cache[index][1], v_BKTH), dim=2)
            self._cache[index] = k_BKTH, v_BKTH
        else:
            self._cache.append((k_BKTH, v_BKTH))
        mask_LT = torch.ones(length, k_BKTH.shape[2], dtype=torch.bool, device=x_BLD.device).tril(self.length)
        mixed_BNLH = F.scaled_dot_product_attention(
            q_BNLH, k_BKTH, v_BKTH, attn_mask=mask_LT, enable_gqa=attention.heads != attention.kv_heads
        )
        output: Tensor = attention.output(mixed_BNLH.transpose(1, 2).flatten(2))
        return output
