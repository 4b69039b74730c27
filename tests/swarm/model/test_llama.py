from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from swarm.model.llama import Attention, Llama, rotate, rotations
from swarm.model.sizes import ModelConfig

CONFIG = ModelConfig("tiny", dim=32, layers=2, heads=4, kv_heads=2, ffn=48, vocab=64, tied=True)


@pytest.fixture
def model() -> Llama:
    torch.manual_seed(0)
    return Llama(CONFIG)


def test_no_position_sees_a_later_one(model: Llama) -> None:
    before_BL = torch.randint(0, CONFIG.vocab, (2, 12))
    after_BL = before_BL.clone()
    after_BL[:, 7:] = (after_BL[:, 7:] + 1) % CONFIG.vocab
    with torch.no_grad():
        left_BLV, right_BLV = model(before_BL), model(after_BL)
    torch.testing.assert_close(left_BLV[:, :7], right_BLV[:, :7], rtol=0, atol=1e-6)
    assert not torch.allclose(left_BLV[:, 7:], right_BLV[:, 7:])


def test_every_earlier_position_matters(model: Llama) -> None:
    tokens_BL = torch.randint(0, CONFIG.vocab, (1, 8))
    other_BL = tokens_BL.clone()
    other_BL[0, 0] = (other_BL[0, 0] + 1) % CONFIG.vocab
    with torch.no_grad():
        assert not torch.allclose(model(tokens_BL)[0, -1], model(other_BL)[0, -1])


def test_grouped_queries_equal_repeated_key_and_value_heads() -> None:
    torch.manual_seed(1)
    grouped = Attention(CONFIG)
    full = Attention(replace(CONFIG, kv_heads=CONFIG.heads))
    repeats, size = CONFIG.heads // CONFIG.kv_heads, CONFIG.head_dim
    full.load_state_dict(
        {
            "query.weight": grouped.query.weight,
            "output.weight": grouped.output.weight,
            **{
                f"{name}.weight": getattr(grouped, name)
                .weight.view(CONFIG.kv_heads, size, CONFIG.dim)
                .repeat_interleave(repeats, dim=0)
                .reshape(-1, CONFIG.dim)
                for name in ("key", "value")
            },
        }
    )
    x_BLD = torch.randn(2, 9, CONFIG.dim)
    tables = rotations(9, CONFIG, x_BLD.device)
    torch.testing.assert_close(grouped(x_BLD, *tables), full(x_BLD, *tables), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("query_at", "key_at", "shift"), [(3, 1, 5), (0, 0, 40), (17, 2, 13)])
def test_rotated_products_depend_on_the_distance_only(query_at: int, key_at: int, shift: int) -> None:
    torch.manual_seed(2)
    cosine_LR, sine_LR = rotations(64, CONFIG, torch.device("cpu"))
    q_H, k_H = torch.randn(CONFIG.head_dim), torch.randn(CONFIG.head_dim)

    def product(i: int, j: int) -> torch.Tensor:
        turned_q_H = rotate(q_H, cosine_LR[i], sine_LR[i])
        return turned_q_H @ rotate(k_H, cosine_LR[j], sine_LR[j])

    torch.testing.assert_close(
        product(query_at, key_at), product(query_at + shift, key_at + shift), rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(product(query_at, key_at), product(query_at + shift, key_at))


def test_rotation_keeps_lengths_and_dtype() -> None:
    cosine_LR, sine_LR = rotations(16, CONFIG, torch.device("cpu"))
    x_BNLH = torch.randn(1, 2, 16, CONFIG.head_dim)
    torch.testing.assert_close(rotate(x_BNLH, cosine_LR, sine_LR).norm(dim=-1), x_BNLH.norm(dim=-1))
    assert rotate(x_BNLH.bfloat16(), cosine_LR, sine_LR).dtype == torch.bfloat16


def test_a_tied_embedding_learns_from_both_its_uses(model: Llama) -> None:
    tokens_BL = torch.tensor([[1, 2, 3]])
    model(tokens_BL).sum().backward()
    gradient_VD = model.embedding.weight.grad
    assert gradient_VD is not None
    assert gradient_VD[50].abs().sum() > 0, "a token that was not read is still predicted"


def test_an_untied_output_is_a_matrix_of_its_own() -> None:
    model = Llama(replace(CONFIG, tied=False))
    assert model(torch.tensor([[1, 2, 3]])).shape == (1, 3, CONFIG.vocab)
    assert "output.weight" in dict(model.named_parameters())
