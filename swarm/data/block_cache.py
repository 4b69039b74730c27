"""Blocks of shards that lie elsewhere, kept on this machine: named by their digests, bounded, never torn."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ops.digest import digest
from swarm.data.source import DataError

_UNFINISHED = "new-"
_ABANDONED_NS = 3600 * 10**9
_KEPT = 0.9
"""What an eviction leaves of the limit, so that it is not needed for every block."""


class BlockCache:
    """May be shared by threads, and the folder by processes: a block is the same whoever fetched it."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Raises DataError if the folder cannot be made."""
        self._path, self._most = path, most_bytes
        self._lock = threading.Lock()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot keep data in {path}: {error.strerror}; choose another data_cache") from None
        self._held = sum(size for _, size, _ in self._blocks())

    def block(self, wanted: bytes, fetch: Callable[[], bytes]) -> bytes:
        """The block with this digest: from the folder, or else fetched and kept. Raises DataError."""
        path = self._path / wanted.hex()
        if (kept := _read(path)) is not None:
            if digest(kept) == wanted:
                with contextlib.suppress(FileNotFoundError):  # evicted meanwhile
                    os.utime(path)  # the least recently used go first
                return kept
            path.unlink(missing_ok=True)
        data = fetch()
        if digest(data) != wanted:
            raise DataError("a block is not what its digest says: the data was changed after it was prepared")
        self._keep(path, data)
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._path, prefix=_UNFINISHED)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(name, path)
        except OSError as error:
            Path(name).unlink(missing_ok=True)
            raise DataError(f"cannot keep data in {self._path}: {error.strerror}; lower data_cache_gb") from None
        with self._lock:
            self._held += len(data)
            if self._held > self._most:
                self._evict()

    def _evict(self) -> None:
        """Remove the blocks that were used longest ago. Counts anew: other processes may keep blocks here too."""
        blocks = sorted(self._blocks())
        self._held = sum(size for _, size, _ in blocks)
        for used_ns, size, path in blocks:
            if self._held <= self._most * _KEPT:
                break
            if path.name.startswith(_UNFINISHED) and time.time_ns() - used_ns < _ABANDONED_NS:
                continue  # somebody is writing it
            path.unlink(missing_ok=True)
            self._held -= size

    def _blocks(self) -> list[tuple[int, int, Path]]:
        """(time of last use, bytes, path) of each file, also of what killed processes left half written."""
        found = []
        for entry in os.scandir(self._path):
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue  # another process evicts too
            found.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        return found


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
