"""Writes one checkpoint: into a folder with a temporary name, each file synced, the manifest last, then renamed.

Killed at any moment, it leaves a folder that nobody takes for a checkpoint. Runs in a thread of its own; only blake3,
copies and system calls take time, and they release the GIL.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ops.layout import FlatLayout
from swarm.checkpoint.flat_file import DurableFile, Written, flat_header, sync_folder, write_whole
from swarm.checkpoint.inner import InnerState, inner_layout
from swarm.checkpoint.manifest import INNER, MANIFEST, MOMENTUM, RECORDS, THETA, File, Inner, Manifest, Scalar
from swarm.checkpoint.snapshot import Snapshot

PARTIAL = ".partial-"
"""How the names of unfinished folders begin."""


class Abandoned(Exception):
    """The save was given up on the way; nothing is left of it."""


@dataclass(frozen=True)
class Job:
    """All that goes into one checkpoint."""

    run: dict[str, Scalar]
    fingerprint: bytes
    head: bytes
    tokens_total: int
    state_root: bytes
    peer: str
    layout: FlatLayout
    snapshot: Snapshot
    records: Iterable[bytes]
    """The chain file up to the snapshot's round, read while it is written."""
    inner: InnerState | None = None
    abandoned: Callable[[], bool] = field(default=lambda: False)
    """Asked between chunks."""


def write_checkpoint(job: Job, target: Path) -> Manifest:
    """Write to `target`, replacing what is there. Raises OSError and Abandoned, having cleaned up."""
    partial = target.with_name(f"{PARTIAL}{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        files = _write_state(job, partial)
        files[RECORDS] = write_whole(partial / RECORDS, job.records)
        if job.inner is not None:
            header = flat_header(inner_layout(tuple(job.inner.vectors), job.layout))
            files[INNER] = write_whole(partial / INNER, [header, *job.inner.vectors.values()])
        manifest = _manifest(job, files)
        write_whole(partial / MANIFEST, [manifest.model_dump_json(indent=1).encode() + b"\n"])
        sync_folder(partial)
        if job.abandoned():
            raise Abandoned
        remove(target)
        partial.rename(target)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def remove(folder: Path) -> None:
    """Delete a checkpoint, the manifest first: what a crash leaves of it is none."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _write_state(job: Job, folder: Path) -> dict[str, Written]:
    """Both vectors in one pass over the chunks."""
    with ExitStack() as stack:
        files = [stack.enter_context(DurableFile(folder / name)) for name in (THETA, MOMENTUM)]
        for file in files:
            file.write(flat_header(job.layout))
        for index in range(job.snapshot.chunks):
            if job.abandoned():
                raise Abandoned
            for file, values_P in zip(files, job.snapshot.read(index), strict=True):
                file.write(values_P)
        return {file.path.name: file.finish() for file in files}


def _manifest(job: Job, files: dict[str, Written]) -> Manifest:
    return Manifest(
        fingerprint=job.fingerprint.hex(),
        run=job.run,
        round=job.snapshot.round,
        head=job.head.hex(),
        tokens_total=job.tokens_total,
        state_root=job.state_root.hex(),
        parameters=job.layout.count,
        peer=job.peer,
        saved_at=time.time(),
        inner=Inner(vectors=tuple(job.inner.vectors), steps=job.inner.steps) if job.inner else None,
        files={name: File(bytes=file.bytes, blake3=file.blake3) for name, file in files.items()},
    ).sealed()
