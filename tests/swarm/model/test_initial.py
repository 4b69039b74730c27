from __future__ import annotations

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ops.digest import digest
from ops.layout import FlatLayout
from swarm.model.initial import initial_theta
from swarm.model.llama import Llama
from swarm.model.sizes import SIZES
from swarm.train.flat import layout_of

DEMO = SIZES["demo"]
# The bits themselves: founders with other software must compute the same ones.
DEMO_SEED_7 = "0a8d4dc5c4a37dc60baa155a09570959162e2a19c77519a2213f87b116b87959"


def demo_layout() -> FlatLayout:
    with torch.device("meta"):
        return layout_of(Llama(DEMO))


def test_the_bits_of_a_seed_never_change() -> None:
    assert digest(initial_theta(demo_layout(), DEMO, seed=7)).hex() == DEMO_SEED_7


def test_another_process_and_other_threads_compute_the_same_bits() -> None:
    program = (
        "import torch; from ops.digest import digest; from swarm.model.initial import initial_theta;"
        "from swarm.model.llama import Llama; from swarm.model.sizes import SIZES;"
        "from swarm.train.flat import layout_of; torch.manual_seed(99);"
        "layout = layout_of(Llama(SIZES['demo'])); print(digest(initial_theta(layout, SIZES['demo'], 3)).hex())"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    layout = demo_layout()
    with ThreadPoolExecutor(4) as pool:
        threads = list(pool.map(lambda _: digest(initial_theta(layout, DEMO, 3)).hex(), range(4)))
    assert {printed, *threads} == {threads[0]}


def test_seeds_and_parameters_differ() -> None:
    layout = demo_layout()
    first_P, second_P = initial_theta(layout, DEMO, 0), initial_theta(layout, DEMO, 1)
    query = layout.entry("layers.0.attention.query.weight")
    other = layout.entry("layers.1.attention.query.weight")
    assert not np.array_equal(first_P[query.start : query.stop], second_P[query.start : query.stop])
    assert not np.array_equal(first_P[query.start : query.stop], first_P[other.start : other.stop])


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("embedding.weight", 0.02),
        ("layers.0.attention.query.weight", 1 / math.sqrt(128)),
        ("layers.3.attention.output.weight", 1 / math.sqrt(128 * 8)),
        ("layers.3.ffn.down.weight", 1 / math.sqrt(384 * 8)),
    ],
)
def test_matrices_are_centred_with_the_stated_deviation(name: str, deviation: float) -> None:
    layout = demo_layout()
    entry = layout.entry(name)
    values_P = initial_theta(layout, DEMO, 5)[entry.start : entry.stop].astype(np.float64)
    assert values_P.std() == pytest.approx(deviation, rel=0.02)
    assert abs(values_P.mean()) < 0.05 * deviation
    assert abs(values_P).max() <= math.sqrt(3) * deviation * 1.0001


def test_norm_gains_are_one() -> None:
    layout = demo_layout()
    theta_P = initial_theta(layout, DEMO, 5)
    norms = [entry for entry in layout.entries if entry.name.endswith("norm.weight")]
    assert len(norms) == 2 * DEMO.layers + 1
    assert all((theta_P[entry.start : entry.stop] == 1).all() for entry in norms)
