"""What a node may choose for itself changes how a step is computed, not what comes out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from swarm.model.llama import Llama
from swarm.train.group import LocalGroup
from swarm.train.parallel import sharded_model
from swarm.train.rank import RankTrainer
from swarm.train.step_config import InnerOptimizer, LocalConfig, StepConfig
from swarm.train.trainer import InnerTrainer
from tests.swarm.train.groups import losses_of
from tests.swarm.train.test_trainer import INNER, READER, TINY


@pytest.fixture
def group() -> Iterator[LocalGroup]:
    with LocalGroup() as formed:
        yield formed


def trainer(group: LocalGroup, local: LocalConfig, config: StepConfig = INNER) -> InnerTrainer:
    made = InnerTrainer(RankTrainer(TINY, config, READER, group, local))
    made.load_flat(made.initial(0))
    return made


def test_recomputed_activations_give_the_same_bits(group: LocalGroup) -> None:
    plain = trainer(group, LocalConfig())
    expected = losses_of(plain, 8)
    for every in (1, 2):
        assert losses_of(trainer(group, LocalConfig(activation_checkpointing=every)), 8) == expected


@pytest.mark.parametrize(("every", "recomputed"), [(0, [1, 1]), (1, [2, 2]), (2, [2, 1]), (3, [2, 1])])
def test_every_nth_layer_is_recomputed(group: LocalGroup, every: int, recomputed: list[int]) -> None:
    model = sharded_model(TINY, group, local=LocalConfig(activation_checkpointing=every))
    passes = [0] * TINY.layers
    for index, layer in enumerate(model.layers):
        layer.ffn.register_forward_pre_hook(lambda *_, index=index: count(passes, index))
    model(torch.zeros(1, 4, dtype=torch.int64)).sum().backward()
    assert passes == recomputed


def count(passes: list[int], index: int) -> None:
    passes[index] += 1


def test_micro_batches_give_the_gradient_of_the_batch(group: LocalGroup) -> None:
    expected = losses_of(trainer(group, LocalConfig()), 8)
    for size in (1, 3):
        assert losses_of(trainer(group, LocalConfig(micro_batch_size=size)), 8) == pytest.approx(expected, abs=1e-5)


def test_bf16_is_what_layers_compute_in_and_nothing_else(group: LocalGroup) -> None:
    made = trainer(group, LocalConfig(), replace(INNER, precision="bf16"))
    seen: list[Tensor] = []
    made.own.model.layers[0].register_forward_pre_hook(lambda _module, inputs: seen.extend(inputs[:3]))
    made.own.model.layers[0].ffn.register_forward_pre_hook(lambda _module, inputs: seen.extend(inputs))
    losses = losses_of(made, 8)
    x, cosine, sine, inner = seen[:4]
    assert [tensor.dtype for tensor in (x, cosine, sine, inner)] == [
        *(torch.bfloat16, torch.float32, torch.float32, torch.bfloat16)
    ]
    assert {parameter.dtype for parameter in made.own.model.parameters()} == {torch.float32}
    exact = losses_of(trainer(group, LocalConfig()), 8)
    assert losses == pytest.approx(exact, abs=0.05)
    assert losses != exact


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_offloaded_parameters_give_the_same_bits(group: LocalGroup, optimizer: InnerOptimizer) -> None:
    config = replace(INNER, optimizer=optimizer)
    expected = losses_of(trainer(group, LocalConfig(), config), 4)
    made = trainer(group, LocalConfig(cpu_offload=True), config)
    assert losses_of(made, 4) == expected
    assert {parameter.device.type for parameter in made.own.model.parameters()} == {"cpu"}


@pytest.mark.filterwarnings("default")  # torch warns of what its own compiler does
def test_compiled_layers_compute_the_same(group: LocalGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated ahead of time as always, but not turned into machine code: that would take a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    expected = losses_of(trainer(group, LocalConfig()), 3)
    made = trainer(group, LocalConfig(compile=True, activation_checkpointing=1))
    assert losses_of(made, 3) == pytest.approx(expected, abs=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_between_steps_every_rank_holds_its_rows_only(group: LocalGroup) -> None:
    made = trainer(group, LocalConfig())
    losses_of(made, 1)
    made.evaluate()
    assert isinstance(made.own.model, Llama)
    assert all(hasattr(parameter, "to_local") for parameter in made.own.model.parameters())
