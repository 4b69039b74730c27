"""The checkpoints of one run in one folder: which there are, which is newest, which may go.

Names are `round-<number>-<end of the writer's peer id>`, so nodes may share a folder. A checkpoint counts when its
manifest can be read; whether its files are whole is seen when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from swarm.checkpoint.flat_file import BadFile
from swarm.checkpoint.manifest import Manifest, read_manifest
from swarm.checkpoint.writer import PARTIAL, remove

PREFIX = "round-"
SHORT = 8
"""Characters of the peer id in a name."""


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint whose manifest can be read; `name` is that of its folder."""

    name: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Keep:
    """Which checkpoints of a node stay: the newest ones, and those of every m-th round for ever (0: none)."""

    newest: int = 2
    every: int = 0

    def superfluous(self, found: Iterable[Found], peer: str) -> list[str]:
        """Names of those that `peer` wrote and that may go."""
        rest = newest_first(one for one in found if one.manifest.peer == peer)[self.newest :]
        return [one.name for one in rest if not self.every or one.manifest.round % self.every]


def newest_first(found: Iterable[Found]) -> list[Found]:
    return sorted(found, key=lambda one: one.manifest.weight, reverse=True)


def name_of(round: int, peer: str) -> str:
    return f"{PREFIX}{round:08d}-{peer[-SHORT:]}"


class CheckpointFolder:
    """One folder of checkpoints; it need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def target(self, round: int, peer: str) -> Path:
        return self.path / name_of(round, peer)

    def scan(self) -> tuple[list[Found], list[tuple[Path, str]]]:
        """(checkpoints, the newest first; folders that are named like one and are none, and why)."""
        found, bad = [], []
        for path in sorted(self.path.glob(f"{PREFIX}*")):
            try:
                found.append(Found(path.name, read_manifest(path)))
            except BadFile as error:
                bad.append((path, str(error)))
        return newest_first(found), bad

    def prune(self, keep: Keep, peer: str) -> None:
        """Delete what `peer` wrote and need not keep."""
        for name in keep.superfluous(self.scan()[0], peer):
            remove(self.path / name)

    def sweep(self, peer: str) -> None:
        """Delete what is left of saves of `peer` that never finished."""
        for path in self.path.glob(f"{PARTIAL}*-{peer[-SHORT:]}"):
            remove(path)
