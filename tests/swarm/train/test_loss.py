"""The loss by chunks is the loss at once, with the same gradients, and needs less memory.

Shape suffixes: as in swarm.train.loss.
"""

from __future__ import annotations

import re
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swarm.train.loss import summed_loss

TOKENS, DIM, VOCAB = 70, 16, 300


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden_BLD = torch.randn(2, TOKENS // 2, DIM, generator=generator).to(dtype).requires_grad_()
    weight_VD = torch.randn(VOCAB, DIM, generator=generator).to(dtype).requires_grad_()
    return hidden_BLD, weight_VD, torch.randint(VOCAB, (2, TOKENS // 2), generator=generator)


def at_once(z_loss: float, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Written out in plain torch: nats, the loss that is minimised, and both gradients."""
    hidden_BLD, weight_VD, targets_BL = inputs(dtype)
    logits_TV = F.linear(hidden_BLD, weight_VD).float().flatten(0, 1)
    nats = F.cross_entropy(logits_TV, targets_BL.flatten(), reduction="sum")
    minimised = nats + z_loss * logits_TV.max(dim=-1).values.square().sum()
    (minimised / 64).backward()
    assert hidden_BLD.grad is not None
    assert weight_VD.grad is not None
    return nats.detach(), minimised.detach(), hidden_BLD.grad, weight_VD.grad


@pytest.mark.parametrize("z_loss", [0.0, 2e-4, 0.1])
@pytest.mark.parametrize("chunk", [1, 32, 70, 1000])
def test_losses_and_gradients_are_those_of_all_logits_at_once(z_loss: float, chunk: int) -> None:
    hidden_BLD, weight_VD, targets_BL = inputs()
    nats, minimised = summed_loss(hidden_BLD, weight_VD, targets_BL, z_loss, chunk)
    (minimised / 64).backward()
    found = (nats, minimised.detach(), hidden_BLD.grad, weight_VD.grad)
    torch.testing.assert_close(found, at_once(z_loss), rtol=1e-5, atol=1e-6)
    assert not nats.requires_grad


def test_bf16_logits_are_summed_in_fp32() -> None:
    hidden_BLD, weight_VD, targets_BL = inputs(torch.bfloat16)
    nats, minimised = summed_loss(hidden_BLD, weight_VD, targets_BL, 2e-4, 32)
    assert nats.dtype == minimised.dtype == torch.float32
    (minimised / 64).backward()
    expected = at_once(2e-4, torch.bfloat16)
    torch.testing.assert_close((nats, minimised.detach()), expected[:2], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close((hidden_BLD.grad, weight_VD.grad), expected[2:], rtol=2e-2, atol=2e-2)


def test_without_gradients_the_loss_is_the_same() -> None:
    hidden_BLD, weight_VD, targets_BL = inputs()
    with torch.no_grad():
        evaluated = summed_loss(hidden_BLD, weight_VD, targets_BL, 2e-4, 32)
    trained = summed_loss(hidden_BLD, weight_VD, targets_BL, 2e-4, 32)
    assert evaluated[0].item() == trained[0].item()
    assert evaluated[1].item() == trained[1].item()


def test_peak_memory_falls_with_the_chunk() -> None:
    """4096 tokens and a vocabulary of 8192: the logits are 128 MiB, those of a chunk 8."""
    assert _peak_of(4096) > 4 * max(4096 * 8192, _peak_of(256))


def _peak_of(chunk: int) -> int:
    """Bytes by which the peak of a fresh process grows in a forward and backward pass."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_grow, (chunk,))


def _grow(chunk: int) -> int:
    torch.set_num_threads(1)
    hidden_BLD = torch.randn(1, 4096, 32, requires_grad=True)
    weight_VD = torch.randn(8192, 32, requires_grad=True)
    targets_BL = torch.randint(8192, (1, 4096))
    summed_loss(hidden_BLD[:, :8], weight_VD, targets_BL[:, :8], 1e-4)[1].backward()  # whatever torch wants to have
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
    before = _status("VmRSS")
    summed_loss(hidden_BLD, weight_VD, targets_BL, 1e-4, chunk)[1].backward()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
