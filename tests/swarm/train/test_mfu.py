from __future__ import annotations

import itertools

import pytest
import torch

from swarm.config import Config, NodeConfig, RunConfig
from swarm.model.sizes import SIZES
from swarm.train.build import build_trainer
from swarm.train.group import LocalGroup
from swarm.train.mfu import flops_per_token, known_tflops, peak_flops


def test_what_is_multiplied_counts_six_times_and_attention_by_the_whole_sequence() -> None:
    tied, untied = SIZES["1b"], SIZES["intellect-1"]
    assert flops_per_token(tied, 1_235_814_400, 2048) == 6 * 1_235_814_400 + 12 * 16 * 2048 * 2048
    embedding = 128_256 * 4096
    assert flops_per_token(untied, 10_211_381_248, 8192) == 6 * (10_211_381_248 - embedding) + 12 * 42 * 4096 * 8192


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA GB200", 2500),
        ("NVIDIA GeForce RTX 4090", 165),
        ("Some GPU", None),
    ],
)
def test_common_devices_are_known_by_the_name_that_they_give(name: str, tflops: float | None) -> None:
    assert known_tflops(name) == tflops


def test_the_peak_of_a_cpu_is_known_only_if_it_is_given() -> None:
    assert peak_flops(torch.device("cpu")) is None
    assert peak_flops(torch.device("cpu"), 0.5) == 5e11


def test_training_says_what_part_of_the_peak_it_used() -> None:
    run = RunConfig(sequence_length=32, batch_size=2)
    with LocalGroup() as group:
        for tflops in (None, 0.25):
            trainer = build_trainer(Config(run=run, node=NodeConfig(peak_tflops=tflops)), group, 1)
            trainer.load_flat(trainer.initial(0))
            result = trainer.train(itertools.count(), 2)
            if tflops is None:
                assert result.mfu is None
            else:
                flops = result.tokens * flops_per_token(SIZES["demo"], 820_352, 32)
                assert result.mfu == pytest.approx(flops / result.seconds / 0.25e12)
