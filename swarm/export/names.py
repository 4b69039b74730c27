"""What Hugging Face calls our parameters and our dimensions. The tensors themselves are equal: no row is permuted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from p2p.errors import SwarmError
from swarm.model.sizes import ModelConfig

_FIXED = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.query.weight": "self_attn.q_proj.weight",
    "attention.key.weight": "self_attn.k_proj.weight",
    "attention.value.weight": "self_attn.v_proj.weight",
    "attention.output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn.gate.weight": "mlp.gate_proj.weight",
    "ffn.up.weight": "mlp.up_proj.weight",
    "ffn.down.weight": "mlp.down_proj.weight",
}
_LAYER = re.compile(r"layers\.(\d+)\.(.+)")


class NotOurKind(SwarmError):
    """A model of Hugging Face's that Swarm's Llama cannot express."""


def hugging_face_name(name: str) -> str:
    """The name of one of our parameters in `transformers`' Llama."""
    if name in _FIXED:
        return _FIXED[name]
    match = _LAYER.fullmatch(name)
    assert match is not None, name
    return f"model.layers.{match[1]}.{_IN_LAYER[match[2]]}"


def config_json(model: ModelConfig, context: int, eos: int | None, dtype: str) -> dict[str, Any]:
    """The fields of `config.json`. context: tokens that the model was trained on at a time."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": model.vocab,
        "hidden_size": model.dim,
        "intermediate_size": model.ffn,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": context,
        "rms_norm_eps": model.norm_eps,
        "rope_theta": model.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_theta},
        "tie_word_embeddings": model.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": eos,
        "pad_token_id": None,
        "dtype": dtype,
        "torch_dtype": dtype,
    }


def model_of(config: Mapping[str, Any], name: str) -> ModelConfig:
    """The shape that a `config.json` describes. Raises NotOurKind."""
    if config.get("model_type") != "llama":
        raise NotOurKind(f"{name} is a {config.get('model_type')!r}, not a llama: only Llamas can be imported")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    odd = {
        "rope_type": (kind, "default"),
        "hidden_act": (config.get("hidden_act", "silu"), "silu"),
        "attention_bias": (config.get("attention_bias", False), False),
        "mlp_bias": (config.get("mlp_bias", False), False),
    }
    for field, (found, known) in odd.items():
        if found != known:
            raise NotOurKind(f"{name} has {field} {found!r}: Swarm's Llama knows {known!r} only")
    try:
        heads = int(config["num_attention_heads"])
        dim = int(config["hidden_size"])
        head_dim = int(config.get("head_dim") or dim // heads)
        if head_dim * heads != dim:
            raise NotOurKind(f"{name} has heads of {head_dim}: Swarm's Llama splits {dim} among {heads} evenly")
        return ModelConfig(
            name=name,
            dim=dim,
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            ffn=int(config["intermediate_size"]),
            vocab=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            rope_theta=float(rope.get("rope_theta", config.get("rope_theta", 10_000.0))),
            norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        )
    except KeyError as error:
        raise NotOurKind(f"{name}: its config.json has no {error}") from None
