"""The deterministic setting: two runs of a group give the same losses to the bit."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from tests.swarm.train.groups import RUN, losses_of, training

MUON = RUN.model_copy(update={"inner_optimizer": "muon"})


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("CUBLAS_WORKSPACE_CONFIG", "NCCL_ALGO"):
        monkeypatch.setenv(name, "")  # restored afterwards, also if it was not there
        monkeypatch.delenv(name)
    yield
    torch.use_deterministic_algorithms(False)


def test_the_same_seed_gives_the_same_bits() -> None:
    losses = []
    for _ in range(2):
        with training(2, MUON, deterministic=True, micro_batch_size=2) as (trainer, _others):
            losses.append(losses_of(trainer, 4))
    assert losses[0] == losses[1]
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert os.environ["NCCL_ALGO"] == "^NVLS"


def test_unasked_nothing_changes() -> None:
    with training(1):
        assert not torch.are_deterministic_algorithms_enabled()
        assert "NCCL_ALGO" not in os.environ
