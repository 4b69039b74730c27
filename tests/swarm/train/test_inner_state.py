"""An optimizer's memory survives a checkpoint: training goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from swarm.config import Config, RunConfig
from swarm.train.build import build_trainer
from swarm.train.group import LocalGroup

RUN = RunConfig(model="demo", sequence_length=32, batch_size=2, warmup_steps=4)


@pytest.fixture
def group() -> Iterator[LocalGroup]:
    with LocalGroup() as formed:
        yield formed


def test_training_goes_on_with_the_same_losses_to_the_bit(group: LocalGroup) -> None:
    first = build_trainer(Config(run=RUN), group, 1)
    theta_P = first.initial(0)
    first.load_flat(theta_P)
    first.train(iter(range(6)), 3)
    first.store_flat(theta_P)
    state = first.inner_state()
    assert state.steps == 3
    assert set(state.vectors) == {"exp_avg", "exp_avg_sq"}
    assert all(np.count_nonzero(x_P) > 0.3 * x_P.size for x_P in state.vectors.values())
    kept = {name: x_P.copy() for name, x_P in state.vectors.items()}

    second = build_trainer(Config(run=RUN), group, 1)
    second.load_flat(theta_P)
    second.load_inner_state(state)
    cold = build_trainer(Config(run=RUN), group, 1)
    cold.load_flat(theta_P)
    losses = [trainer.train(iter(range(6, 12)), 3, first_step=3).loss for trainer in (first, second, cold)]
    assert losses[0] == losses[1] != losses[2]
    assert all(np.array_equal(state.vectors[name], x_P) for name, x_P in kept.items()), "a copy, not the live moments"


def test_an_optimizer_that_has_not_stepped_has_nothing_to_keep(group: LocalGroup) -> None:
    trainer = build_trainer(Config(run=RUN), group, 1)
    assert trainer.inner_state().vectors == {}
    assert trainer.inner_state().steps == 0
    fresh = trainer.inner_state()
    trainer.load_flat(trainer.initial(0))
    trainer.load_inner_state(fresh)
    assert trainer.inner_state().vectors == {}
    assert trainer.train(iter(range(6)), 3).steps == 3, "it begins anew"
