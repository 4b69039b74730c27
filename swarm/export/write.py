"""Writes a model as Hugging Face stores it: config.json, safetensors in shards with an index, tokenizer files.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from ops.layout import Entry, FlatLayout
from swarm.export.names import config_json, hugging_face_name
from swarm.model.sizes import ModelConfig

Precision = Literal["float32", "bfloat16"]
SHARD_BYTES = 5_000_000_000
"""Most bytes in one file, unless a single tensor is larger: what Hugging Face's own tools write."""


def write_model(
    folder: Path,
    theta_P: NDArray[np.float32],
    layout: FlatLayout,
    model: ModelConfig,
    *,
    precision: Precision = "float32",
    context: int,
    eos: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> list[str]:
    """Write into an existing folder; returns the names of the safetensors files. Raises OSError."""
    dtype = getattr(torch, precision)
    shards = list(_shards(layout, dtype.itemsize, shard_bytes))
    names = [
        "model.safetensors" if len(shards) == 1 else f"model-{index:05d}-of-{len(shards):05d}.safetensors"
        for index in range(1, len(shards) + 1)
    ]
    for name, entries in zip(names, shards, strict=True):
        tensors = {
            hugging_face_name(entry.name): torch.from_numpy(theta_P[entry.start : entry.stop])
            .view(entry.shape)
            .to(dtype)
            for entry in entries
        }
        save_file(tensors, folder / name, metadata={"format": "pt"})
    if len(shards) > 1:
        _write_index(folder, names, shards, layout.count * dtype.itemsize)
    config = config_json(model, context, eos, precision)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return names


def _shards(layout: FlatLayout, value_bytes: int, most: int) -> Iterator[list[Entry]]:
    """The entries in their order, as many in a shard as fit."""
    shard: list[Entry] = []
    for entry in layout.entries:
        if shard and (entry.stop - shard[0].start) * value_bytes > most:
            yield shard
            shard = []
        shard.append(entry)
    yield shard


def _write_index(folder: Path, names: list[str], shards: list[list[Entry]], total: int) -> None:
    places = {
        hugging_face_name(entry.name): name for name, entries in zip(names, shards, strict=True) for entry in entries
    }
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
