"""The directory where a node keeps its key, its state and its events: one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2p.errors import SwarmError


class StateDirError(SwarmError):
    """The state directory cannot be used."""


@contextmanager
def claimed(path: Path) -> Iterator[Path]:
    """Make the directory if need be and keep other nodes out of it: two with one key would impersonate each other.

    The lock goes with the process, however that ends; children started by fork do not hold it.
    """
    lock = path / "lock"
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateDirError(
            f"cannot use the state directory {path}: {error.strerror}; choose another with --state-dir"
        ) from None
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateDirError(
                f"another process uses the state directory {path}: stop it, or choose another with --state-dir"
            ) from None
        yield path
    finally:
        os.close(descriptor)
