"""Reads a Hugging Face Llama into the flat vector of a run.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from blake3 import blake3
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ops.layout import Entry, FlatLayout
from swarm.export.names import NotOurKind, hugging_face_name, model_of
from swarm.model.sizes import ModelConfig

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


class HuggingFaceFolder:
    """A folder with config.json and safetensors."""

    def __init__(self, path: Path) -> None:
        """Raises NotOurKind."""
        self.path = path
        self.config: dict[str, Any] = self._json("config.json")
        self.model: ModelConfig = model_of(self.config, str(path))
        self._files = self._find()

    @property
    def context(self) -> int | None:
        """Tokens that it was trained on at a time, if it says so."""
        found = self.config.get("max_position_embeddings")
        return found if isinstance(found, int) and found > 0 else None

    def theta(self, layout: FlatLayout) -> NDArray[np.float32]:
        """All parameters, in the order of the layout. Raises NotOurKind."""
        theta_P = np.empty(layout.count, np.float32)
        self.fill(layout, theta_P)
        return theta_P

    def fill(self, layout: FlatLayout, out_P: NDArray[np.float32]) -> None:
        """`theta`, into a vector that is there. Raises NotOurKind."""
        for entry, values_P in self._tensors(layout):
            out_P[entry.start : entry.stop] = values_P

    def digest(self, layout: FlatLayout) -> bytes:
        """BLAKE3 of `theta`, one tensor in memory at a time: the same however the files are cut. Raises NotOurKind."""
        hasher = blake3()
        for _, values_P in self._tensors(layout):
            hasher.update(values_P.data.cast("B"))
        return hasher.digest()

    def _tensors(self, layout: FlatLayout) -> Iterator[tuple[Entry, NDArray[np.float32]]]:
        for entry in layout.entries:
            name = hugging_face_name(entry.name)
            file = self._files.get(name)
            if file is None:
                raise NotOurKind(f"{self.path} has no tensor {name}")
            try:
                with safe_open(file, framework="pt") as tensors:
                    value = tensors.get_tensor(name)
            except (OSError, SafetensorError) as error:
                raise NotOurKind(f"{file} cannot be read: {error}") from None
            if tuple(value.shape) != entry.shape:
                raise NotOurKind(f"{file}: {name} has the shape {tuple(value.shape)}, expected {entry.shape}")
            yield entry, value.to(torch.float32).contiguous().view(-1).numpy()

    def _find(self) -> dict[str, Path]:
        """Where each tensor is."""
        if (self.path / INDEX).is_file():
            places = self._json(INDEX).get("weight_map", {})
            return {name: self.path / Path(file).name for name, file in places.items()}
        file = self.path / SINGLE
        try:
            with safe_open(file, framework="pt") as tensors:
                return dict.fromkeys(tensors.keys(), file)
        except (OSError, SafetensorError) as error:
            raise NotOurKind(f"{file} cannot be read: {error}; give a folder with safetensors files") from None

    def _json(self, name: str) -> dict[str, Any]:
        try:
            fields = json.loads((self.path / name).read_text(encoding="utf-8"))
        except OSError as error:
            raise NotOurKind(
                f"{self.path / name} cannot be read: {error.strerror}; give a folder that transformers has saved"
            ) from None
        except ValueError as error:
            raise NotOurKind(f"{self.path / name} is not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise NotOurKind(f"{self.path / name} is not a JSON object")
        return fields
