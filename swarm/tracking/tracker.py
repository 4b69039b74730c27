"""The trackers that a node can be told to feed, behind one small interface. Each is imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from p2p.errors import SwarmError

PACKAGES: dict[str, str] = {"wandb": "wandb", "trackio": "trackio", "tensorboard": "tensorboardX"}
"""What to install for each."""


class MissingTracker(SwarmError):
    """A tracker was asked for whose package is not installed."""


@dataclass(frozen=True)
class Subject:
    """Whose numbers they are."""

    run: str
    """Name of the run: the tracker's project."""
    node: str
    id: str
    """The same after a restart, so that the curve goes on."""
    config: Mapping[str, str | int | float | bool]
    directory: Path
    """Where a tracker may keep files of its own."""


class Tracker(Protocol):
    """May be slow and may raise anything; used in a thread of its own, where it was made."""

    def log(self, round: int, numbers: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def require(names: tuple[str, ...]) -> None:
    """Raises MissingTracker for the first whose package is not there."""
    for name in names:
        _package(name)


def open_tracker(name: str, subject: Subject) -> Tracker:
    """Raises MissingTracker, and whatever the package raises."""
    package = _package(name)
    if name == "wandb":
        return Wandb(package, subject)
    if name == "trackio":
        return Trackio(package, subject)
    return TensorBoard(package, subject)


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(PACKAGES[name])
    except ImportError:
        raise MissingTracker(
            f"trackers: {name} needs a package that is not installed: pip install {PACKAGES[name]}"
        ) from None


class Wandb:
    """Weights & Biases: one run a node, gone on with after a restart."""

    def __init__(self, wandb: Any, subject: Subject) -> None:
        self._run = wandb.init(
            project=subject.run,
            name=subject.node,
            id=subject.id,
            config=dict(subject.config),
            dir=str(subject.directory),
            resume="allow",
        )

    def log(self, round: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=round)

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """Trackio, the local one with wandb's calls."""

    def __init__(self, trackio: Any, subject: Subject) -> None:
        self._trackio = trackio
        trackio.init(project=subject.run, name=subject.id, config=dict(subject.config), resume="allow")

    def log(self, round: int, numbers: Mapping[str, float]) -> None:
        self._trackio.log(dict(numbers), step=round)

    def close(self) -> None:
        self._trackio.finish()


class TensorBoard:
    """Event files, by tensorboardX: the node needs nothing of the viewer."""

    def __init__(self, tensorboard: Any, subject: Subject) -> None:
        self._writer = tensorboard.SummaryWriter(str(subject.directory / "tensorboard"))

    def log(self, round: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, round)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
