"""Token by token, the decoder computes what the model computes at once."""

from __future__ import annotations

import pytest
import torch

from swarm.model.decode import Decoder
from swarm.model.sizes import ModelConfig
from tests.swarm.export.models import BYTES, WIDE, ours, theta_of


@pytest.mark.parametrize("model", [BYTES, WIDE], ids=lambda model: model.name)
@pytest.mark.parametrize("cuts", [[20], [1] * 20, [7, 1, 1, 11], [1, 19]])
def test_logits_are_those_of_the_whole(model: ModelConfig, cuts: list[int]) -> None:
    llama = ours(model, theta_of(model))
    tokens_L = torch.randint(0, model.vocab, (20,), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole_LV = llama(tokens_L[None])[0]
    decoder, end = Decoder(llama), 0
    for cut in cuts:
        logits_V = decoder.read(tokens_L[end : end + cut])
        end += cut
        torch.testing.assert_close(logits_V, whole_LV[end - 1], rtol=1e-5, atol=1e-5)
    assert decoder.length == 20


def test_what_is_forgotten_has_no_influence() -> None:
    decoder = Decoder(ours(BYTES, theta_of(BYTES)))
    fresh = decoder.read(torch.tensor([5, 6, 7]))
    decoder.read(torch.tensor([8]))
    decoder.forget()
    torch.testing.assert_close(decoder.read(torch.tensor([5, 6, 7])), fresh)
