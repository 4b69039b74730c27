"""Clipping by the norm: torch's bits on one rank. Larger groups are compared with one rank in ranks/test_groups.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from swarm.train.clip import clip_gradients
from swarm.train.group import LocalGroup


@pytest.fixture
def group() -> Iterator[LocalGroup]:
    with LocalGroup() as formed:
        yield formed


def parameters() -> list[torch.nn.Parameter]:
    made = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((7, 3), (5,), (0, 3))]
    for index, parameter in enumerate(made):
        parameter.grad = torch.linspace(-2, 3, parameter.numel()).view(parameter.shape) + index
    return made


@pytest.mark.parametrize("most", [1.0, 1000.0])
def test_it_is_torchs_clipping_to_the_bit(group: LocalGroup, most: float) -> None:
    ours, theirs = parameters(), parameters()
    norm = clip_gradients(ours, most, group)
    assert norm == float(torch.nn.utils.clip_grad_norm_(theirs, most))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours, theirs, strict=True))  # type: ignore[arg-type]


def test_without_a_limit_it_only_measures(group: LocalGroup) -> None:
    ours, before = parameters(), parameters()
    assert clip_gradients(ours, 0.0, group) > 1
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours, before, strict=True))  # type: ignore[arg-type]
