"""Finds the checkpoint that a person means: one folder, a folder of them, or a node's state directory.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ops.layout import FlatLayout
from p2p.errors import SwarmError
from p2p.protocol.model import MAX_FRAGMENTS
from swarm.checkpoint.flat_file import BadFile
from swarm.checkpoint.folder import CheckpointFolder
from swarm.checkpoint.load import read_state
from swarm.checkpoint.manifest import MANIFEST, Manifest, read_manifest
from swarm.model.llama import Llama
from swarm.model.sizes import ModelConfig
from swarm.train.flat import layout_of

UNKNOWN_CONTEXT = 2048


class NoCheckpoint(SwarmError):
    """There is no checkpoint that could be used."""


@dataclass(frozen=True)
class Parameters:
    """The parameters of a checkpoint, verified."""

    path: Path
    manifest: Manifest
    model: ModelConfig
    layout: FlatLayout
    theta_P: NDArray[np.float32]

    @property
    def context(self) -> int:
        """Tokens that the model is trained on at a time."""
        found = self.manifest.run.get("sequence_length")
        return found if isinstance(found, int) and found > 0 else UNKNOWN_CONTEXT


def read_parameters(path: Path, refused: Callable[[Path, str], None]) -> Parameters:
    """The newest good checkpoint at `path`; `refused` is told of newer ones that are damaged. Raises NoCheckpoint."""
    for folder in _candidates(path, refused):
        try:
            manifest = read_manifest(folder)
            model = _model(manifest)
            layout = model_layout(model, _fragments(manifest))
            theta_P = np.empty(layout.count, np.float32)
            read_state(folder, manifest, layout, theta_P)
        except BadFile as error:
            refused(folder, str(error))
        else:
            return Parameters(folder, manifest, model, layout, theta_P)
    raise NoCheckpoint(
        f"no usable checkpoint at {path}: give a checkpoint's folder (round-...), or the state directory of a node"
    )


def model_layout(model: ModelConfig, fragments: int = 1) -> FlatLayout:
    """Where each parameter of a model of that shape lies in the flat vector of a run with so many fragments."""
    with torch.device("meta"):
        return layout_of(Llama(model), fragments)


def _candidates(path: Path, refused: Callable[[Path, str], None]) -> list[Path]:
    if (path / MANIFEST).is_file():
        return [path]
    folder = CheckpointFolder(path / "checkpoints" if (path / "checkpoints").is_dir() else path)
    found, bad = folder.scan()
    for place, reason in bad:
        refused(place, reason)
    return [folder.path / one.name for one in found]


def _fragments(manifest: Manifest) -> int:
    """Raises BadFile."""
    found = manifest.run.get("fragments", 1)
    if not isinstance(found, int) or not 1 <= found <= MAX_FRAGMENTS:
        raise BadFile(f"{MANIFEST} has the vector in {found!r} fragments")
    return found


def _model(manifest: Manifest) -> ModelConfig:
    """The shape that the run's fields spell out. Raises BadFile."""
    fields = {key.removeprefix("model."): value for key, value in manifest.run.items() if key.startswith("model.")}
    try:
        return ModelConfig(**fields)  # type: ignore[arg-type]  # a wrong type or name shows below
    except (TypeError, AssertionError, ZeroDivisionError) as error:
        raise BadFile(f"{MANIFEST} describes no model: {error}") from None
