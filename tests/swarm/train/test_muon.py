"""Muon on one rank; what groups of several make of it is in ranks/test_groups.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from swarm.train.group import LocalGroup
from swarm.train.muon import Muon, orthogonalised
from swarm.train.optimizers import build_optimizers
from swarm.train.parallel import sharded_model
from tests.swarm.train.test_trainer import INNER, TINY, losses_of, trainer

MUON = replace(INNER, optimizer="muon")


@pytest.fixture
def group() -> Iterator[LocalGroup]:
    with LocalGroup() as formed:
        yield formed


@pytest.mark.parametrize("shape", [(16, 16), (48, 20), (20, 48)])
def test_all_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix_RC = torch.randn(*shape, generator=torch.Generator().manual_seed(3))
    u, _, v = torch.linalg.svd(matrix_RC, full_matrices=False)
    done_RC = orthogonalised(matrix_RC)
    values = torch.linalg.svdvals(done_RC)
    assert 0.6 < values.min() < values.max() < 1.3
    cosine = torch.nn.functional.cosine_similarity(done_RC.flatten(), (u @ v).flatten(), dim=0)
    assert cosine > 0.97, "the same directions"
    assert orthogonalised(100 * matrix_RC).allclose(done_RC, atol=1e-4), "whatever the size of the gradient"
    assert orthogonalised(torch.zeros(shape)).eq(0).all()


def test_a_step_is_that_of_torchs_own_muon_in_bf16(group: LocalGroup) -> None:
    start_RC, theirs = torch.randn(24, 16), torch.nn.Parameter(torch.empty(24, 16))
    ours = torch.nn.Parameter(start_RC.clone())
    theirs.data.copy_(start_RC)
    mine = Muon([ours], group, lr=0.1, weight_decay=0.1, dtype=torch.bfloat16)
    reference = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        ours.grad = torch.randn(24, 16)
        theirs.grad = ours.grad.clone()
        mine.step()
        reference.step()
    torch.testing.assert_close(ours.data, theirs.data, rtol=0, atol=0.02)
    assert (ours - start_RC).abs().max() > 0.1


def test_every_parameter_has_one_optimizer_and_matrices_of_layers_have_muon(group: LocalGroup) -> None:
    model = sharded_model(TINY, group)
    adamw, muon = build_optimizers(model, MUON, group)
    assert isinstance(muon, Muon)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    of_adamw, of_muon = (
        {names[id(parameter)] for settings in one.param_groups for parameter in settings["params"]}
        for one in (adamw, muon)
    )
    assert of_adamw | of_muon == set(names.values())
    assert not of_adamw & of_muon
    assert len(of_muon) == 7 * TINY.layers
    assert "embedding.weight" in of_adamw
    assert not any("norm" in name for name in of_muon)


def test_it_learns_and_goes_on_from_what_it_remembers_to_the_bit(group: LocalGroup) -> None:
    made = trainer(group, MUON)
    losses = losses_of(made, 20)
    assert losses[-1] < losses[0] - 1
    state, out_P = made.inner_state(), np.empty(made.layout.count, np.float32)
    made.store_flat(out_P)
    entry = made.layout.entry("layers.0.ffn.up.weight")
    assert np.count_nonzero(state.vectors["exp_avg"][entry.start : entry.stop]) > 0.9 * (entry.stop - entry.start)
    assert not state.vectors["exp_avg_sq"][entry.start : entry.stop].any(), "Muon has no second moment"
    again = trainer(group, MUON)
    again.load_flat(out_P)
    again.load_inner_state(state)
    assert losses_of(again, 3, first=80) == losses_of(made, 3, first=80)
