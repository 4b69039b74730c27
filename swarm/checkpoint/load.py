"""Takes a checkpoint back: every file is compared with the manifest, and the state with what the manifest says of it.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ops.layout import FlatLayout
from p2p.chain_file import ChainFile, ForeignChain
from p2p.identity import verify
from p2p.protocol.chain import InvalidRecord, Verify, check_signatures
from p2p.protocol.plan import Head
from swarm.checkpoint.flat_file import BadFile, check_whole, read_flat
from swarm.checkpoint.folder import CheckpointFolder
from swarm.checkpoint.inner import InnerState, inner_layout
from swarm.checkpoint.manifest import INNER, MOMENTUM, RECORDS, THETA, Manifest

Refused = Callable[[Path, str], None]
"""Told of each checkpoint that cannot be used, and why."""
RECORDS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Resumed:
    """What was taken back: theta and momentum are in the vectors, the records in the chain."""

    path: Path
    manifest: Manifest
    head: Head
    inner: InnerState | None


def resume(
    folder: CheckpointFolder,
    layout: FlatLayout,
    theta_P: NDArray[np.float32],
    momentum_P: NDArray[np.float32],
    chain: ChainFile,
    peer: str,
    refused: Refused,
    verify: Verify = verify,
) -> Resumed | None:
    """Fill the vectors from the newest good checkpoint of the chain's run; None if there is none (they may be garbage).

    The inner optimizer comes back only from a checkpoint of `peer`'s own.
    """
    found, bad = folder.scan()
    for path, reason in bad:
        refused(path, reason)
    for one in found:
        path, manifest = folder.path / one.name, one.manifest
        if manifest.fingerprint != chain.tip.fingerprint.hex():
            continue
        try:
            read_state(path, manifest, layout, theta_P, momentum_P)
            inner = read_inner(path, manifest, layout) if manifest.peer == peer else None
            head = restore_records(path, manifest, chain, verify)
        except BadFile as error:
            refused(path, str(error))
        else:
            return Resumed(path, manifest, head, inner)
    return None


def read_state(
    path: Path,
    manifest: Manifest,
    layout: FlatLayout,
    theta_P: NDArray[np.float32],
    momentum_P: NDArray[np.float32] | None = None,
) -> None:
    """Fill the vectors. Raises BadFile; they hold garbage then."""
    vectors = {THETA: theta_P} if momentum_P is None else {THETA: theta_P, MOMENTUM: momentum_P}
    for name, x_P in vectors.items():
        read_flat(path / name, layout, [x_P], manifest.files[name].written)


def read_inner(path: Path, manifest: Manifest, layout: FlatLayout) -> InnerState | None:
    """Raises BadFile."""
    if manifest.inner is None:
        return None
    names = manifest.inner.vectors
    vectors = {name: np.empty(layout.count, np.float32) for name in names}
    read_flat(path / INNER, inner_layout(names, layout), list(vectors.values()), manifest.files[INNER].written)
    return InnerState(vectors, manifest.inner.steps)


def restore_records(path: Path, manifest: Manifest, chain: ChainFile, verify: Verify) -> Head:
    """Make the chain hold the checkpoint's history, and return its head. Raises BadFile, the chain as it was."""
    check_whole(path / RECORDS, manifest.files[RECORDS].written)
    with _opened(path / RECORDS, chain.tip.fingerprint) as saved:
        if (saved.tip.height, saved.tip.head.hex()) != (manifest.round, manifest.head):
            raise BadFile(f"{RECORDS} does not lead to the head that the manifest names")
        common = min(saved.tip.height, chain.tip.height)
        while saved.hash_at(common) != chain.hash_at(common):
            common -= 1
        missing = range(common + 1, saved.tip.height + 1)
        try:
            for round in missing:
                check_signatures(saved.record(round), verify)
        except InvalidRecord as error:
            raise BadFile(f"{RECORDS}: {error}") from None
        if missing:
            chain.truncate(common)
        for round in missing:
            chain.append(saved.record(round))
    record = chain.record(manifest.round).record if manifest.round >= 0 else None
    return Head(chain.tip.fingerprint, record)


@contextmanager
def _opened(path: Path, fingerprint: bytes) -> Iterator[ChainFile]:
    try:
        chain = ChainFile(path, fingerprint)
    except (ForeignChain, OSError) as error:
        raise BadFile(f"{RECORDS}: {error}") from None
    try:
        yield chain
    finally:
        chain.close()
