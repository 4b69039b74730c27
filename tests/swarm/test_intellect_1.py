"""configs/intellect-1.toml describes a run that this program would begin, short of the GPUs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from ops.layout import FlatLayout
from swarm.config import Config, NodeConfig, run_fields, run_fingerprint
from swarm.config_load import load_config
from swarm.data.manifest import dtype_for
from swarm.data.mix import Interleave, parse_mix
from swarm.data.open import open_reader
from swarm.data.tokenizer import load_tokenizer
from swarm.model.llama import Llama
from swarm.model.sizes import model_config
from swarm.train.build import local_config, step_config
from tests.swarm.data.prepared import prepared, trained_tokenizer

FILE = Path(__file__).resolve().parents[2] / "configs" / "intellect-1.toml"
ANNEALING = 100_870_000
SAMPLES = 10**12 // 8192


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(FILE)


def test_the_model_has_the_parameters_of_the_report_in_one_flat_vector(config: Config) -> None:
    with torch.device("meta"):
        model = Llama(model_config(config.run.model))
    layout = FlatLayout.of([(name, tuple(parameter.shape)) for name, parameter in model.named_parameters()])
    assert layout.count == 10_211_381_248
    assert layout.entry("embedding.weight").shape == layout.entry("output.weight").shape == (128_256, 4096)
    assert sum(entry.name.startswith("layers.41.") for entry in layout.entries) == 9
    assert dtype_for(model.config.vocab) == "u32"


def test_steps_and_codec_are_those_of_the_report(config: Config) -> None:
    run = config.run
    assert run.batch_size * run.sequence_length == 2**20
    assert (run.inner_steps, run.codec, run.outer_lr, run.outer_momentum) == (100, "int8", 0.7, 0.9)
    inner = step_config(run)
    assert (inner.betas, inner.weight_decay, inner.z_loss) == ((0.9, 0.95), 0.1, 2e-4)
    assert (inner.grad_clip, inner.precision) == (1.0, "bf16")


def test_the_learning_rate_begins_to_fall_where_the_mix_changes_and_ends_at_nothing(config: Config) -> None:
    schedule = step_config(config.run).schedule
    assert schedule(999) == schedule(74_700) == 7.5e-5 > schedule(74_701)
    assert schedule(74_700 + 15_700 // 4) == pytest.approx(7.5e-5 / 2)
    assert schedule(90_400) == 0
    assert config.last_round == 904
    assert abs(ANNEALING / SAMPLES - 74_700 / config.run.total_steps) < 1e-3


def test_eight_gpus_are_one_member_and_share_each_batch_evenly(config: Config) -> None:
    local = local_config(config.node)
    assert (config.node.device, config.node.local_world_size) == ("cuda", 8)
    assert config.run.batch_size % (config.node.local_world_size * local.micro_batch_size) == 0
    assert (local.activation_checkpointing, local.compile) == (1, True)


def test_the_mix_is_that_of_the_report_before_and_after_annealing_begins(config: Config) -> None:
    interleave = Interleave(parse_mix(config.run.data))

    def drawn(first: int) -> dict[str, int]:
        return dict(Counter(interleave(index)[0] for index in range(first, first + 20)))

    before = {"fineweb-edu": 11, "fineweb": 2, "stack-v1-popular": 4, "dclm-baseline": 2, "open-web-math": 1}
    assert drawn(0) == drawn(ANNEALING - 20) == before
    assert drawn(ANNEALING) == drawn(SAMPLES - 20) == {"fineweb-edu": 16, "fineweb": 2, "stack-v1-popular": 2}
    assert abs(ANNEALING / SAMPLES - 74_700 / 90_400) < 1e-3


def test_with_data_of_these_names_it_has_a_fingerprint_and_batches(config: Config, tmp_path: Path) -> None:
    """The names stand for terabytes; small sources in their place show that everything fits together."""
    tokenizer = load_tokenizer(str(trained_tokenizer(tmp_path / "tokenizer.json")))
    for name in parse_mix(config.run.data).names:
        prepared(tmp_path / name, [f"{name} " * 100] * 100 + ["held out " * 9000], tokenizer=tokenizer, held_out=0.0)
    fingerprint = run_fingerprint(config.run, str(tmp_path))
    assert len(fingerprint) == 32
    assert fingerprint != run_fingerprint(config.run.model_copy(update={"inner_steps": 50}), str(tmp_path))
    fields = run_fields(config.run, str(tmp_path))
    assert fields[f"data.weight.fineweb-edu from {ANNEALING}"] == 8
    assert fields["model.layers"] == 42
    batch = open_reader(config.run, NodeConfig(data_dir=str(tmp_path))).batch([0, ANNEALING, SAMPLES])
    assert batch.inputs_BL.shape == (3, 8192)
    assert batch.documents_BL is not None
