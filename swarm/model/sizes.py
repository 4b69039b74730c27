"""The named model sizes a run can ask for."""

from __future__ import annotations

from dataclasses import dataclass

from p2p.errors import SwarmError


class UnknownModel(SwarmError):
    """A run names a model size that does not exist."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of one Llama.

    dim: width of the residual stream; ffn: width of the SwiGLU's hidden layer; kv_heads: key/value heads that groups
    of query heads share; tied: the output projection is the embedding itself.
    """

    name: str
    dim: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    tied: bool
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        assert self.dim % self.heads == 0, f"{self.name}: dim must be a multiple of heads"
        assert self.heads % self.kv_heads == 0, f"{self.name}: heads must be a multiple of kv_heads"
        assert self.head_dim % 2 == 0, f"{self.name}: rotary positions need an even head size"

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


# Up to 100m the vocabulary is bytes: nothing to download. 1b has the shape of Llama 3.2 1B, intellect-1 that of the
# model of the INTELLECT-1 report (table 1). Small models tie the embedding; at 10B it is 5 % of the parameters.
_SIZES = (
    ModelConfig("demo", dim=128, layers=4, heads=4, kv_heads=2, ffn=384, vocab=256, tied=True),
    ModelConfig("5m", dim=384, layers=3, heads=6, kv_heads=3, ffn=1152, vocab=256, tied=True),
    ModelConfig("10m", dim=320, layers=8, heads=5, kv_heads=5, ffn=896, vocab=256, tied=True),
    ModelConfig("100m", dim=768, layers=14, heads=12, kv_heads=4, ffn=2304, vocab=256, tied=True),
    ModelConfig(
        "1b", dim=2048, layers=16, heads=32, kv_heads=8, ffn=8192, vocab=128_256, tied=True, rope_theta=500_000.0
    ),
    ModelConfig(
        "intellect-1",
        dim=4096,
        layers=42,
        heads=32,
        kv_heads=8,
        ffn=14_336,
        vocab=128_256,
        tied=False,
        rope_theta=500_000.0,
    ),
)
SIZES: dict[str, ModelConfig] = {size.name: size for size in _SIZES}


def model_config(name: str) -> ModelConfig:
    """The size of that name. Raises UnknownModel, which lists the names there are."""
    if name not in SIZES:
        raise UnknownModel(f"unknown model {name!r}: choose one of {', '.join(SIZES)}")
    return SIZES[name]
