"""Picks the next token. Shape suffix: V vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from swarm.model.decode import Decoder


def pick(logits_V: Tensor, temperature: float, top_p: float, random: torch.Generator) -> int:
    """One token by nucleus sampling (arXiv:1904.09751); the likeliest at temperature 0."""
    if temperature == 0.0:
        return int(logits_V.argmax())
    probability_V, token_V = torch.softmax(logits_V / temperature, dim=-1).sort(descending=True)
    before_V = probability_V.cumsum(0) - probability_V
    kept_V = probability_V * (before_V < top_p)
    kept_V[0] = probability_V[0]  # the likeliest stays whatever the share
    return int(token_V[torch.multinomial(kept_V, 1, generator=random)])


def continuation(
    decoder: Decoder,
    prompt: Sequence[int],
    *,
    context: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: int | None = None,
) -> Iterator[int]:
    """Tokens that follow the prompt, without end, or up to the token `stop`.

    The model sees at most `context` tokens; when they are full, it goes on with the later half of them.
    """
    assert prompt, "there is nothing to continue"
    random = torch.Generator().manual_seed(seed)
    seen = list(prompt[-context:])
    logits_V = decoder.read(torch.tensor(seen))
    while True:
        token = pick(logits_V.cpu(), temperature, top_p, random)
        if token == stop:
            return
        yield token
        seen.append(token)
        if decoder.length >= context:
            seen = seen[-max(1, context // 2) :]
            decoder.forget()
            logits_V = decoder.read(torch.tensor(seen))
        else:
            logits_V = decoder.read(torch.tensor([token]))
