"""What a simulation leaves of the model that it trained."""

from __future__ import annotations

import shutil
from pathlib import Path

from swarm.checkpoint.folder import CheckpointFolder


def keep_checkpoint(state_dirs: Path, target: Path) -> Path | None:
    """Copy the newest checkpoint of all nodes below `state_dirs` to `target`, replacing what is there; None: no node
    has one. Raises OSError."""
    folders = [CheckpointFolder(path) for path in sorted(state_dirs.glob("*/checkpoints"))]
    found = [(one.manifest.weight, folder.path / one.name) for folder in folders for one in folder.scan()[0]]
    if not found:
        return None
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(max(found)[1], target)
    return target
