"""Every parameter has a name of Hugging Face's, and the shapes agree both ways."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, LlamaForCausalLM

from swarm.checkpoint.source import model_layout
from swarm.export.names import config_json, hugging_face_name, model_of
from swarm.model.sizes import SIZES


@pytest.mark.parametrize("name", list(SIZES))
def test_names_and_shapes_are_those_of_transformers(name: str) -> None:
    fields = config_json(SIZES[name], 128, 7, "float32")
    config = AutoConfig.for_model(**{k: v for k, v in fields.items() if k not in ("architectures", "torch_dtype")})
    with torch.device("meta"):
        theirs = {key: tuple(x.shape) for key, x in LlamaForCausalLM(config).named_parameters()}
    ours = {hugging_face_name(entry.name): entry.shape for entry in model_layout(SIZES[name]).entries}
    assert ours == theirs
    assert model_of(fields, name) == SIZES[name]
