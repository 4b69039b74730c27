"""What is exported is what transformers computes with: equal logits, shards, index, precision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from swarm.checkpoint.source import model_layout
from swarm.export.write import Precision, write_model
from swarm.model.sizes import ModelConfig
from tests.swarm.export.models import BYTES, CONTEXT, WIDE, ours, theta_of


def logits_of(folder: Path, tokens_BL: torch.Tensor) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        found: torch.Tensor = model(tokens_BL).logits
    return found


def our_logits(model: ModelConfig, tokens_BL: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = ours(model, theta_of(model))(tokens_BL)
    return found


@pytest.mark.parametrize("model", [BYTES, WIDE], ids=lambda model: model.name)
@pytest.mark.parametrize("shard_bytes", [10**9, 60_000])
def test_logits_are_equal(tmp_path: Path, model: ModelConfig, shard_bytes: int) -> None:
    layout = model_layout(model)
    names = write_model(tmp_path, theta_of(model), layout, model, context=CONTEXT, shard_bytes=shard_bytes)
    assert (len(names) > 1) == (tmp_path / "model.safetensors.index.json").exists() == (shard_bytes < 10**6)
    tokens_BL = torch.randint(0, model.vocab, (2, CONTEXT), generator=torch.Generator().manual_seed(1))
    theirs, mine = logits_of(tmp_path, tokens_BL), our_logits(model, tokens_BL)
    assert mine.std() > 0.05
    torch.testing.assert_close(theirs, mine, rtol=1e-5, atol=1e-5)


def test_bfloat16_is_stored_and_close(tmp_path: Path) -> None:
    precision: Precision = "bfloat16"
    layout = model_layout(BYTES)
    [name] = write_model(tmp_path, theta_of(BYTES), layout, BYTES, precision=precision, context=CONTEXT)
    assert (tmp_path / name).stat().st_size < 2.1 * layout.count
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == torch.bfloat16
    tokens_BL = torch.arange(32)[None]
    with torch.no_grad():
        theirs = model(tokens_BL).logits.float()
    mine = our_logits(BYTES, tokens_BL)
    assert (theirs - mine).std() < 0.05 * mine.std()


def test_shards_are_no_larger_than_asked_and_the_index_finds_all(tmp_path: Path) -> None:
    layout = model_layout(WIDE)
    names = write_model(tmp_path, theta_of(WIDE), layout, WIDE, context=CONTEXT, shard_bytes=300_000)
    assert all((tmp_path / name).stat().st_size < 310_000 for name in names)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * layout.count
    assert set(index["weight_map"].values()) == set(names)
    assert len(index["weight_map"]) == len(layout.entries)
