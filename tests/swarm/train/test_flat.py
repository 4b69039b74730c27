from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from swarm.model.llama import Llama
from swarm.model.sizes import ModelConfig
from swarm.train.flat import layout_of, load_flat, store_flat
from swarm.train.group import LocalGroup
from swarm.train.parallel import sharded_model

CONFIG = ModelConfig("tiny", dim=32, layers=2, heads=4, kv_heads=2, ffn=48, vocab=64, tied=True)


@pytest.fixture
def group() -> Iterator[LocalGroup]:
    with LocalGroup() as formed:
        yield formed


def random_theta(count: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(count, dtype=np.float32)


@pytest.mark.parametrize("tied", [True, False])
def test_the_flat_vector_survives_the_parameters(group: LocalGroup, tied: bool) -> None:
    model = sharded_model(replace(CONFIG, tied=tied), group)
    layout = layout_of(model)
    theta_P, back_P = random_theta(layout.count), np.zeros(layout.count, dtype=np.float32)
    theta_P.flags.writeable = False
    load_flat(model, layout, group, theta_P)
    store_flat(model, layout, group, back_P)
    assert theta_P.tobytes() == back_P.tobytes()


def test_the_layout_is_that_of_the_unsharded_model(group: LocalGroup) -> None:
    with torch.device("meta"):
        whole = Llama(CONFIG)
    layout = layout_of(sharded_model(CONFIG, group))
    assert layout == layout_of(whole)
    assert layout.digest == layout_of(whole).digest
    assert layout.count == sum(parameter.numel() for parameter in whole.parameters())


def test_values_land_where_the_layout_says(group: LocalGroup) -> None:
    model = sharded_model(CONFIG, group)
    layout = layout_of(model)
    theta_P = random_theta(layout.count)
    load_flat(model, layout, group, theta_P)
    entry = layout.entry("layers.1.ffn.down.weight")
    expected = torch.from_numpy(theta_P[entry.start : entry.stop]).view(entry.shape)
    assert torch.equal(model.layers[1].ffn.down.weight.full_tensor(), expected)


def test_gathered_parameters_are_refused(group: LocalGroup) -> None:
    """After a forward without backward the root is a gathered copy; writing there would be lost."""
    model = sharded_model(CONFIG, group)
    layout = layout_of(model)
    theta_P = random_theta(layout.count)
    load_flat(model, layout, group, theta_P)
    with torch.no_grad():
        model(torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(AssertionError, match="reshard"):
        load_flat(model, layout, group, theta_P)


def test_a_vector_of_another_size_or_type_is_a_mistake(group: LocalGroup) -> None:
    model = sharded_model(CONFIG, group)
    layout = layout_of(model)
    for wrong in (np.zeros(layout.count - 1, dtype=np.float32), np.zeros(layout.count, dtype=np.float64)):
        with pytest.raises(AssertionError):
            store_flat(model, layout, group, wrong)
