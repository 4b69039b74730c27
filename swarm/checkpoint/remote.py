"""Checkpoints in any store that fsspec knows: object stores, SSH, another disk.

A store has no rename that could make a folder appear at once, so the manifest goes last: without it there is no
checkpoint. All methods block, and belong to the thread that saves.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec

from p2p.errors import SwarmError
from swarm.checkpoint.flat_file import BadFile
from swarm.checkpoint.folder import PREFIX, CheckpointFolder, Found, Keep, newest_first
from swarm.checkpoint.manifest import MANIFEST, Manifest, parse_manifest
from swarm.checkpoint.writer import PARTIAL, remove


class NoSuchStore(SwarmError):
    """A URL that fsspec cannot open here."""


class RemoteStore:
    """The checkpoints under one URL."""

    def __init__(self, url: str) -> None:
        """Raises NoSuchStore."""
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise NoSuchStore(
                f"checkpoint_url {url!r} cannot be used: {error}; install the package that fsspec names for it, "
                "or give another URL"
            ) from None
        self.url = url

    def upload(self, folder: Path) -> None:
        """Copy a finished checkpoint. Raises whatever the store's driver raises."""
        place = f"{self._root}/{folder.name}"
        self._files.makedirs(place, exist_ok=True)
        names = sorted(path.name for path in folder.iterdir())
        self._forget_manifest(place)
        for name in (*(name for name in names if name != MANIFEST), MANIFEST):
            self._files.put_file(str(folder / name), f"{place}/{name}")

    def scan(self) -> list[Found]:
        """Checkpoints with a manifest that can be read, the newest first."""
        return newest_first(self._found())

    def download(self, found: Found, folder: CheckpointFolder) -> Path:
        """Copy one into a local folder, where it then counts like one written there."""
        partial, target = folder.path / f"{PARTIAL}{found.name}", folder.path / found.name
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in (*found.manifest.files, MANIFEST):
            self._files.get_file(f"{self._root}/{found.name}/{name}", str(partial / name))
        remove(target)
        partial.rename(target)
        return target

    def prune(self, keep: Keep, peer: str) -> None:
        """Delete what `peer` wrote and need not keep, each manifest first."""
        for name in keep.superfluous(self._found(), peer):
            self._forget_manifest(f"{self._root}/{name}")
            self._files.rm(f"{self._root}/{name}", recursive=True)

    def _forget_manifest(self, place: str) -> None:
        if self._files.exists(f"{place}/{MANIFEST}"):
            self._files.rm_file(f"{place}/{MANIFEST}")

    def _found(self) -> Iterator[Found]:
        self._files.invalidate_cache()
        for path in self._files.glob(f"{self._root}/{PREFIX}*/{MANIFEST}"):
            manifest = self._manifest(path)
            if manifest is not None:
                yield Found(path.rsplit("/", 2)[1], manifest)

    def _manifest(self, path: str) -> Manifest | None:
        try:
            return parse_manifest(self._files.cat_file(path))
        except (BadFile, FileNotFoundError):  # torn, or being replaced by its writer
            return None
