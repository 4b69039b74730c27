"""Packed documents: what the model makes of each must be what it makes of it alone, whichever form the mask has."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swarm.model.documents import BLOCK, attend, block_mask, dense_mask, positions
from swarm.model.llama import Llama
from swarm.model.sizes import ModelConfig

CONFIG = ModelConfig("tiny", dim=32, layers=2, heads=4, kv_heads=2, ffn=48, vocab=64, tied=True)
LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=12)


def documents_of(*lengths: list[int]) -> Tensor:
    """B x L: a sample for each list of lengths, which have equal sums."""
    return torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in lengths]).int()


def test_positions_begin_anew_with_each_document() -> None:
    assert positions(documents_of([3, 1, 2], [1, 4, 1])).tolist() == [[0, 1, 2, 0, 0, 1], [0, 0, 1, 2, 3, 0]]


def test_a_token_sees_what_is_before_it_in_its_own_document() -> None:
    mask_BLL = dense_mask(documents_of([2, 3]))[:, 0]
    assert mask_BLL[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 1],
    ]


def test_logits_of_packed_documents_equal_those_of_each_alone() -> None:
    torch.manual_seed(0)
    model = Llama(CONFIG)
    lengths = [5, 1, 40, 17, 1]
    tokens_BL = torch.randint(0, CONFIG.vocab, (3, sum(lengths)))
    with torch.no_grad():
        packed_BLV = model(tokens_BL, documents_of(lengths, lengths[::-1], [64]))
        for sample, row in enumerate((lengths, lengths[::-1], [64])):
            alone = [model(part_BL)[0] for part_BL in tokens_BL[sample : sample + 1].split(row, dim=1)]
            torch.testing.assert_close(packed_BLV[sample], torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_gradients_of_packed_documents_equal_those_of_each_alone() -> None:
    torch.manual_seed(0)
    model = Llama(CONFIG)
    tokens_BL = torch.randint(0, CONFIG.vocab, (1, 24))
    model(tokens_BL, documents_of([9, 15])).logsumexp(-1).sum().backward()
    packed = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.zero_grad()
    for part_BL in tokens_BL.split([9, 15], dim=1):
        model(part_BL).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(packed[name], parameter.grad, rtol=1e-4, atol=1e-5)


def test_one_document_is_what_no_documents_are() -> None:
    torch.manual_seed(0)
    model = Llama(CONFIG)
    tokens_BL = torch.randint(0, CONFIG.vocab, (2, 33))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens_BL), model(tokens_BL, documents_of([33], [33])), rtol=1e-5, atol=1e-5)


def shown(documents_BL: Tensor) -> Tensor:
    """What a block mask lets through, B x L x L: its blocks, and within those it lists as partial its function."""
    mask = block_mask(documents_BL)
    batch, length = documents_BL.shape
    seen_BLL = torch.zeros(batch, length, length, dtype=torch.bool)
    index_L = torch.arange(length)
    for b in range(batch):
        allowed_LL = mask.mask_mod(torch.tensor(b), torch.tensor(0), index_L[:, None], index_L[None, :])
        for counts, places, whole in (
            (mask.kv_num_blocks, mask.kv_indices, False),
            (mask.full_kv_num_blocks, mask.full_kv_indices, True),
        ):
            for q, count in enumerate(counts[b, 0].tolist()):
                for k in places[b, 0, q, :count].tolist():
                    block = (slice(q * BLOCK, (q + 1) * BLOCK), slice(k * BLOCK, (k + 1) * BLOCK))
                    seen_BLL[b][block] = True if whole else allowed_LL[block]
    return seen_BLL


@settings(max_examples=30, deadline=None)
@given(LENGTHS, LENGTHS)
def test_blocks_show_exactly_what_the_dense_mask_shows(first: list[int], second: list[int]) -> None:
    total = max(sum(first), sum(second))
    documents_BL = documents_of(*([*row, total - sum(row)] if sum(row) < total else row for row in (first, second)))
    assert torch.equal(shown(documents_BL), dense_mask(documents_BL)[:, 0])


def test_whole_blocks_are_known_as_such_and_need_no_mask() -> None:
    mask = block_mask(documents_of([2 * BLOCK + 5, 3 * BLOCK - 5]))
    assert mask.full_kv_num_blocks[0, 0].tolist() == [0, 1, 0, 0, 1]
    assert mask.kv_num_blocks[0, 0].tolist() == [1, 1, 3, 2, 2]


def random_heads(device: str, length: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, length, 16) for heads in (4, 2, 2))
    return q.to(device), k.to(device), v.to(device)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_and_dense_attention_agree() -> None:
    documents_BL = documents_of([100, 57, 150], [307])
    heads = random_heads("cpu", 307)
    with torch.no_grad():
        dense = attend(*heads, dense_mask(documents_BL))
        flex = attend(*heads, block_mask(documents_BL))
    torch.testing.assert_close(flex, dense, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_flex_attention_on_a_gpu_agrees_with_dense_attention_also_backwards() -> None:
    documents_BL = documents_of([100, 57, 150], [307]).cuda()
    heads = [tensor.requires_grad_() for tensor in random_heads("cuda", 307)]
    dense = attend(*heads, dense_mask(documents_BL))
    flex = attend(*heads, block_mask(documents_BL))
    torch.testing.assert_close(flex, dense, rtol=1e-3, atol=1e-3)
    upstream = torch.randn_like(dense)
    for left, right in zip(
        torch.autograd.grad(dense, heads, upstream), torch.autograd.grad(flex, heads, upstream), strict=True
    ):
        torch.testing.assert_close(left, right, rtol=1e-2, atol=1e-2)
