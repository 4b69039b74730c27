"""What a run starts from: its seed, or a Hugging Face Llama, in a folder here or known by its digest only.

The digest of the parameters, however their files are cut, is part of the run's fingerprint. A node that has no more
than the digest gets the state from others.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from p2p.errors import SwarmError

if TYPE_CHECKING:
    from swarm.config import RunConfig
    from swarm.export.read import HuggingFaceFolder

_DIGEST = re.compile(r"[0-9a-f]{64}")


class NoFirstParameters(SwarmError):
    """A node is to begin a run without having what it starts from, or with something else."""


def is_digest(initial: str) -> bool:
    """Whether `[run] initial` is a digest rather than a folder."""
    return _DIGEST.fullmatch(initial) is not None


def initial_digest(run: RunConfig) -> str:
    """What the fingerprint has for `[run] initial`: empty for a seed. Reads the whole folder. Raises SwarmError."""
    if not run.initial or is_digest(run.initial):
        return run.initial
    from swarm.checkpoint.source import model_layout

    folder = _folder(run)
    return folder.digest(model_layout(folder.model)).hex()


def fill_first(run: RunConfig, out_P: NDArray[np.float32], seeded: Callable[[NDArray[np.float32]], object]) -> bool:
    """Write the run's first parameters; False if only their digest is known here. Raises SwarmError."""
    if not run.initial:
        seeded(out_P)
        return True
    if is_digest(run.initial):
        return False
    from swarm.checkpoint.source import model_layout

    folder = _folder(run)
    folder.fill(model_layout(folder.model, run.fragments), out_P)
    return True


def check_first(run: RunConfig, theta_P: NDArray[np.float32]) -> None:
    """Raises NoFirstParameters if others gave us something else than the digest says."""
    if is_digest(run.initial) and _digest(run, theta_P) != run.initial:
        raise NoFirstParameters(
            f"the first parameters that others gave are not those of run.initial {run.initial[:16]}...: "
            "they are no members of this run, whatever they say; give bootstrap_peers of nodes that you trust"
        )


def _digest(run: RunConfig, theta_P: NDArray[np.float32]) -> str:
    """Of all parameters in the order of the model, wherever the run's vector has them."""
    from swarm.checkpoint.source import model_layout
    from swarm.model.sizes import SIZES

    hasher = blake3()
    for entry in model_layout(SIZES[run.model], run.fragments).entries:
        hasher.update(theta_P[entry.start : entry.stop].data.cast("B"))
    return hasher.hexdigest()


def cannot_found(run: RunConfig) -> NoFirstParameters:
    """Why a node that holds no state may not found the run."""
    return NoFirstParameters(
        f"run.initial is the digest of parameters that are not here ({run.initial[:16]}...): to found the run, give "
        "the model's folder instead; to join it, give bootstrap_peers and do not set found"
    )


def _folder(run: RunConfig) -> HuggingFaceFolder:
    """The folder, whose model must be the run's. Raises SwarmError."""
    from swarm.export.read import HuggingFaceFolder
    from swarm.model.sizes import SIZES

    folder = HuggingFaceFolder(Path(run.initial).expanduser())
    theirs, ours = asdict(folder.model), asdict(SIZES[run.model])
    odd = [f"{key} {theirs[key]} instead of {ours[key]}" for key in ours if key != "name" and theirs[key] != ours[key]]
    if odd:
        raise NoFirstParameters(
            f"{run.initial} is no model {run.model!r}: it has {', '.join(odd)}; set run.model to one that matches"
        )
    return folder
