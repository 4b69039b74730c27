"""The state that a node begins with: the newest good checkpoint that it can reach, else the run's first parameters.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ops.layout import FlatLayout
from p2p.chain_file import ChainFile
from p2p.protocol.plan import Head
from swarm import events
from swarm.checkpoint.folder import CheckpointFolder
from swarm.checkpoint.inner import InnerState
from swarm.checkpoint.load import Resumed, resume
from swarm.checkpoint.remote import RemoteStore

Tell = Callable[[events.Event], None]


@dataclass(frozen=True)
class Beginning:
    """theta and momentum after the round of `head` (genesis: the first parameters and zeros)."""

    theta_P: NDArray[np.float32]
    momentum_P: NDArray[np.float32]
    head: Head
    held: bool = True
    """False: the run starts from parameters that are not here; others have to give them."""
    inner: InnerState | None = None
    """What the inner optimizer goes on from; None: it starts anew."""


def begin(
    layout: FlatLayout,
    chain: ChainFile,
    peer: str,
    folder: CheckpointFolder,
    remote: RemoteStore | None,
    theta_P: NDArray[np.float32],
    initial: Callable[[NDArray[np.float32]], bool],
    tell: Tell,
) -> Beginning:
    """Blocks while it reads into theta_P. `initial` writes the first parameters there if they are needed, and says
    whether it has them.
    """
    folder.sweep(peer)
    momentum_P = np.zeros(layout.count, np.float32)

    def refused(path: Path, reason: str) -> None:
        tell(events.CheckpointRefused(path=str(path), reason=reason))

    def from_disk() -> Resumed | None:
        return resume(folder, layout, theta_P, momentum_P, chain, peer, refused)

    found = from_disk()
    if found is None and remote is not None and _download(remote, folder, chain, tell):
        found = from_disk()
    if found is None:
        momentum_P.fill(0.0)  # a checkpoint that was refused half-way leaves its traces
        return Beginning(theta_P, momentum_P, Head(chain.tip.fingerprint), held=initial(theta_P))
    steps = found.inner.steps if found.inner else None
    tell(events.Resumed(round=found.head.height, path=str(found.path), inner_steps=steps))
    return Beginning(theta_P, momentum_P, found.head, inner=found.inner)


def _download(remote: RemoteStore, folder: CheckpointFolder, chain: ChainFile, tell: Tell) -> bool:
    """Fetch the newest checkpoint of this run from the remote store, if there is one; whose it is does not matter."""
    try:
        mine = [one for one in remote.scan() if one.manifest.fingerprint == chain.tip.fingerprint.hex()]
        if mine:
            tell(events.Notice(message=f"fetches checkpoint {mine[0].name} from {remote.url}"))
            remote.download(mine[0], folder)
    # A store's driver may raise anything, and the swarm may have the state all the same.
    except Exception as error:  # noqa: BLE001
        tell(events.Error(message=f"no checkpoint from {remote.url}: {error}"))
        return False
    return bool(mine)
