"""Sampling: what temperature, top-p, seed and a full context do."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import pytest
import torch

from swarm.generate.sample import continuation, pick
from swarm.model.decode import Decoder
from tests.swarm.export.models import BYTES, ours, theta_of

LOGITS_V = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()


def drawn(temperature: float, top_p: float, count: int = 2000) -> Counter[int]:
    random = torch.Generator().manual_seed(0)
    return Counter(pick(LOGITS_V, temperature, top_p, random) for _ in range(count))


def tokens(count: int, **options: Any) -> list[int]:
    decoder = Decoder(ours(BYTES, theta_of(BYTES)))
    return list(islice(continuation(decoder, [1, 2, 3], **({"context": 64} | options)), count))


def test_temperature_zero_takes_the_likeliest() -> None:
    assert drawn(0.0, 1.0, 20) == {0: 20}


def test_shares_follow_the_probabilities() -> None:
    found = drawn(1.0, 1.0)
    assert [found[token] / 2000 for token in range(4)] == pytest.approx([0.5, 0.25, 0.15, 0.1], abs=0.04)
    assert drawn(0.5, 1.0)[0] > found[0]


@pytest.mark.parametrize(
    ("top_p", "left"), [(0.0, {0}), (0.5, {0}), (0.7, {0, 1}), (0.8, {0, 1, 2}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_fewest_that_make_up_the_share(top_p: float, left: set[int]) -> None:
    assert set(drawn(1.0, top_p)) == left


def test_a_seed_gives_the_same_text_and_another_seed_another() -> None:
    assert tokens(30, seed=1) == tokens(30, seed=1) != tokens(30, seed=2)


def test_the_greedy_path_is_the_models_own() -> None:
    model, seen = ours(BYTES, theta_of(BYTES)), [1, 2, 3]
    with torch.no_grad():
        for _ in range(10):
            seen.append(int(model(torch.tensor([seen]))[0, -1].argmax()))
    assert tokens(10, temperature=0.0) == seen[3:]


def test_a_full_context_is_halved_and_the_text_goes_on() -> None:
    decoder = Decoder(ours(BYTES, theta_of(BYTES)))
    found = continuation(decoder, list(range(30)), context=16, temperature=0.0)
    lengths = [decoder.length for _ in islice(found, 40)]
    assert max(lengths) == 16
    assert min(lengths[1:]) == 8


def test_the_end_of_a_text_ends_it() -> None:
    all_of_them = tokens(30, temperature=0.0)
    stop = all_of_them[4]
    assert tokens(30, temperature=0.0, stop=stop) == all_of_them[: all_of_them.index(stop)]
