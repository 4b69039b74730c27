"""Hugging Face Llamas come in: the round trip keeps every bit, and what does not fit is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ops.digest import digest
from swarm.checkpoint.source import model_layout
from swarm.export.names import NotOurKind
from swarm.export.read import HuggingFaceFolder
from swarm.export.write import write_model
from swarm.model.sizes import ModelConfig
from tests.swarm.export.models import BYTES, CONTEXT, WIDE, ours, theta_of


@pytest.mark.parametrize("model", [BYTES, WIDE], ids=lambda model: model.name)
def test_out_and_in_again_is_the_same_to_the_bit(tmp_path: Path, model: ModelConfig) -> None:
    layout, theta_P = model_layout(model), theta_of(model)
    write_model(tmp_path, theta_P, layout, model, context=CONTEXT, shard_bytes=60_000)
    folder = HuggingFaceFolder(tmp_path)
    assert {**vars_of(folder.model), "name": ""} == {**vars_of(model), "name": ""}
    assert folder.context == CONTEXT
    assert folder.theta(layout).tobytes() == theta_P.tobytes()
    assert folder.digest(layout) == digest(theta_P)


def vars_of(model: ModelConfig) -> dict[str, object]:
    return {name: getattr(model, name) for name in ModelConfig.__dataclass_fields__}


@pytest.mark.parametrize("tied", [True, False])
def test_a_llama_that_transformers_saved_computes_the_same_here(tmp_path: Path, tied: bool) -> None:
    torch.manual_seed(3)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=96,
            vocab_size=300,
            tie_word_embeddings=tied,
            max_position_embeddings=128,
        )
    )
    theirs.save_pretrained(tmp_path)
    folder = HuggingFaceFolder(tmp_path)
    tokens_BL = torch.randint(0, 300, (1, 50))
    with torch.no_grad():
        mine = ours(folder.model, folder.theta(model_layout(folder.model)))(tokens_BL)
        torch.testing.assert_close(mine, theirs(tokens_BL).logits, rtol=1e-5, atol=1e-5)


def theta_at(path: Path) -> np.ndarray:
    folder = HuggingFaceFolder(path)
    return folder.theta(model_layout(folder.model))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "gpt2"}, "only Llamas"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope_type 'llama3'"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"head_dim": 16}, "heads of 16"),
        ({"num_hidden_layers": 9}, "no tensor"),
        ({"intermediate_size": 81}, "shape"),
    ],
)
def test_what_our_llama_cannot_be_is_refused(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    write_model(tmp_path, theta_of(BYTES), model_layout(BYTES), BYTES, context=CONTEXT)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | change))
    with pytest.raises(NotOurKind, match=complaint):
        theta_at(tmp_path)


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NotOurKind, match=r"config\.json cannot be read.*give a folder"):
        HuggingFaceFolder(tmp_path)
    write_model(tmp_path, theta_of(BYTES), model_layout(BYTES), BYTES, context=CONTEXT)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(NotOurKind, match=r"model\.safetensors cannot be read"):
        HuggingFaceFolder(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(NotOurKind, match="not a JSON object"):
        HuggingFaceFolder(tmp_path)
