from __future__ import annotations

import pytest
import torch

from swarm.model.llama import Llama, parameter_count
from swarm.model.sizes import SIZES, UnknownModel, model_config


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("demo", 820_352),
        ("5m", 5_409_408),
        ("10m", 10_245_440),
        ("100m", 96_556_800),
        ("1b", 1_235_814_400),  # as Llama 3.2 1B
        ("intellect-1", 10_211_381_248),  # as INTELLECT-1
    ],
)
def test_each_size_has_its_number_of_parameters(name: str, parameters: int) -> None:
    assert parameter_count(model_config(name)) == parameters


def test_every_size_is_checked_above() -> None:
    assert list(SIZES) == ["demo", "5m", "10m", "100m", "1b", "intellect-1"]


def test_an_unknown_size_names_those_there_are() -> None:
    with pytest.raises(UnknownModel, match="choose one of demo, 5m, 10m"):
        model_config("70b")


def test_only_the_largest_has_an_output_matrix_of_its_own() -> None:
    for config in SIZES.values():
        with torch.device("meta"):
            names = {name for name, _ in Llama(config).named_parameters()}
        assert ("output.weight" in names) == (config.name == "intellect-1")
