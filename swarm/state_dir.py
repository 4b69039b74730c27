"""The directory where a node keeps its key, its state and its events: one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from p2p.errors import SwarmError

RECORDS = "records"
"""File of the records that the run has committed."""
STATE = "state"
"""File of the state, chunk by chunk, for the node's next start."""
CONTACTS = "contacts"
"""File of the peers that the node has met."""
EVENTS = "events.jsonl"
"""File of the node's events, if the configuration names no other."""


class StateDirError(SwarmError):
    """The state directory cannot be used."""


class NothingThere(SwarmError):
    """A folder does not hold what a command was to look at."""


def find(paths: Sequence[Path], file: str) -> dict[str, Path]:
    """The files of this name in state directories, or one level below (a simulation's folder), by a name for each.

    A path may also be such a file itself. Raises NothingThere for a path without any.
    """
    files: list[Path] = []
    for path in paths:
        beneath = [path] if path.is_file() else [path / file, *sorted(path.glob(f"*/{file}"))]
        found = [one for one in beneath if one.is_file() and one.stat().st_size]
        if not found:
            raise NothingThere(f"no {file} in {path}: give a node's state directory, or a folder of such directories")
        files += [one for one in found if one not in files]
    names = [one.absolute().parent.name if one.name == file else one.name for one in files]
    if len(set(names)) < len(names):
        names = [str(one) for one in files]
    return dict(zip(names, files, strict=True))


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
