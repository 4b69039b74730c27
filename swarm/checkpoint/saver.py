"""Saves checkpoints beside training: one at a time, in a thread of its own, to disk and then to a remote store.

`Saver` belongs to the event loop. What goes wrong in a save is an event; training goes on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from ops.layout import FlatLayout
from p2p.chain_file import ChainFile
from p2p.protocol.plan import Head
from swarm import events
from swarm.checkpoint.folder import CheckpointFolder, Keep
from swarm.checkpoint.inner import InnerState
from swarm.checkpoint.manifest import Scalar
from swarm.checkpoint.remote import RemoteStore
from swarm.checkpoint.writer import Abandoned, Job, write_checkpoint
from swarm.events import EventLog
from swarm.outer_state import OuterState


@dataclass(frozen=True)
class SavePlan:
    """What a node was told about its checkpoints. every: rounds between two; 0: none."""

    every: int
    keep: Keep
    folder: CheckpointFolder
    remote: RemoteStore | None = None


@dataclass(frozen=True)
class Run:
    """What a checkpoint says of the run and of its writer."""

    fields: dict[str, Scalar]
    fingerprint: bytes
    layout: FlatLayout
    peer: str


class Saver:
    """The checkpoints of one node."""

    def __init__(self, plan: SavePlan, run: Run, state: OuterState, chain: ChainFile, log: EventLog) -> None:
        self.plan = plan
        self._run, self._state, self._chain, self._log = run, state, chain, log
        self._loop = asyncio.get_running_loop()
        self._saving: asyncio.Future[None] | None = None
        self._saved: bytes | None = None
        self._abandoned = False

    def due(self, round: int) -> bool:
        """Whether the state after this round is to be saved."""
        return self.plan.every > 0 and round > 0 and round % self.plan.every == 0

    async def save(self, head: Head, inner: InnerState | None) -> None:
        """Begin to save the present state, which `head` committed; returns at once.

        If the last save is still going on, this one is left out.
        """
        if self._saving is not None and not self._saving.done():
            self._log.write(events.Notice(message=f"round {head.height} is not saved: the last save is not over yet"))
            return
        if head.hash == self._saved or self._state.round != head.height:
            return
        digests = await self._state.digests()  # known already: they are hashed once a round
        if digests.round != head.height or self._state.round != head.height:
            return
        job = Job(
            run=self._run.fields,
            fingerprint=self._run.fingerprint,
            head=head.hash,
            tokens_total=head.tokens_total,
            state_root=digests.root,
            peer=self._run.peer,
            layout=self._run.layout,
            snapshot=self._state.snapshot(),
            records=self._chain.raw(head.height),
            inner=inner,
            abandoned=lambda: self._abandoned,
        )
        self._saving = self._loop.create_future()
        # A daemon: a store that hangs must not keep the node from ending.
        threading.Thread(target=self._work, args=(job, self._saving), name="checkpoint", daemon=True).start()

    async def finish(self, seconds: float | None = None) -> None:
        """Wait for the save that is going on; give it up after so many seconds."""
        if self._saving is None:
            return
        await asyncio.wait({self._saving}, timeout=seconds)
        if not self._saving.done():
            self._abandoned = True
            self._log.write(events.Notice(message="the last checkpoint was given up: there was no time to finish it"))

    # --- in the thread ---

    def _work(self, job: Job, done: asyncio.Future[None]) -> None:
        """Save, upload, delete what is superfluous, and tell."""
        target = self.plan.folder.target(job.snapshot.round, job.peer)
        try:
            self._write(job, target)
            if self.plan.remote is not None and target.exists():
                self._upload(self.plan.remote, target, job.snapshot.round)
        finally:
            self._loop.call_soon_threadsafe(done.set_result, None)

    def _write(self, job: Job, target: Path) -> None:
        began = time.monotonic()
        try:
            manifest = write_checkpoint(job, target)
            self._saved = job.head
            self.plan.folder.prune(self.plan.keep, job.peer)
        except Abandoned:
            return
        except OSError as error:
            self._tell(events.Error(message=f"checkpoint {target} not written: {error.strerror or error}"))
            return
        finally:
            self._state.release(job.snapshot)
        seconds = time.monotonic() - began
        self._tell(events.Checkpoint(round=manifest.round, path=str(target), bytes=manifest.bytes, seconds=seconds))

    def _upload(self, remote: RemoteStore, target: Path, round: int) -> None:
        began = time.monotonic()
        try:
            remote.upload(target)
            remote.prune(self.plan.keep, self._run.peer)
        # A store's driver may raise anything; the checkpoint on disk is whole, and training does not depend on this.
        except Exception as error:  # noqa: BLE001
            self._tell(events.Error(message=f"checkpoint not uploaded to {remote.url}: {error}"))
            return
        self._tell(events.Uploaded(round=round, url=remote.url, seconds=time.monotonic() - began))

    def _tell(self, event: events.Event) -> None:
        self._loop.call_soon_threadsafe(self._log.write, event)
