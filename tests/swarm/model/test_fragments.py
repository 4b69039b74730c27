"""The order of the parameters in a run with fragments: strided by layers, and nothing else of the model changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ops.layout import Entry
from swarm.checkpoint.flat_file import Written, flat_header, read_flat, write_whole
from swarm.checkpoint.inner import inner_layout
from swarm.checkpoint.source import model_layout
from swarm.model.fragments import place
from swarm.model.initial import initial_theta
from swarm.model.sizes import SIZES

DEMO = SIZES["demo"]


def in_order(fragments: int) -> list[str]:
    """What comes in the vector, one name for all of a layer."""
    entries = sorted(model_layout(DEMO, fragments).entries, key=lambda entry: entry.start)
    return list(
        dict.fromkeys(".".join(entry.name.split(".")[: 2 if "layers" in entry.name else 1]) for entry in entries)
    )


def test_without_fragments_the_order_is_the_models() -> None:
    layout = model_layout(DEMO)
    assert [entry.start for entry in layout.entries] == sorted(entry.start for entry in layout.entries)
    assert in_order(1) == ["embedding", "layers.0", "layers.1", "layers.2", "layers.3", "norm"]


@pytest.mark.parametrize(("fragments", "layers"), [(2, "0213"), (3, "0312"), (4, "0123")])
def test_layers_are_strided(fragments: int, layers: str) -> None:
    assert in_order(fragments) == ["embedding", *(f"layers.{layer}" for layer in layers), "norm"]


def test_layers_are_ordered_by_number_not_by_name() -> None:
    names = [f"layers.{layer}.ffn.up.weight" for layer in range(12)]
    assert sorted(sorted(names, key=str), key=lambda name: place(name, 1)) == names


def values(theta_P: np.ndarray, entry: Entry) -> bytes:
    return theta_P[entry.start : entry.stop].tobytes()


def test_the_first_parameters_hang_on_the_seed_alone() -> None:
    whole, cut = model_layout(DEMO), model_layout(DEMO, 3)
    one_P, other_P = (initial_theta(layout, DEMO, 7) for layout in (whole, cut))
    assert one_P.tobytes() != other_P.tobytes()
    assert whole.digest != cut.digest
    for entry in whole.entries:
        assert values(one_P, entry) == values(other_P, cut.entry(entry.name))


def test_files_name_every_parameter_where_it_lies(tmp_path: Path) -> None:
    """Also the inner optimizer's, which has several vectors in one file."""
    layout = inner_layout(("exp_avg", "exp_avg_sq"), model_layout(DEMO, 3))
    vectors = [np.random.default_rng(seed).standard_normal(layout.count // 2, np.float32) for seed in (1, 2)]
    written: Written = write_whole(tmp_path / "inner", [flat_header(layout), *vectors])
    read = [np.empty_like(vector) for vector in vectors]
    read_flat(tmp_path / "inner", layout, read, written)
    assert [x_P.tobytes() for x_P in read] == [x_P.tobytes() for x_P in vectors]
    second = layout.entry("exp_avg_sq/layers.1.ffn.up.weight")
    inner = model_layout(DEMO, 3).entry("layers.1.ffn.up.weight")
    assert values(np.concatenate(vectors), second) == values(vectors[1], inner)
