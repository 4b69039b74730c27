"""Saves checkpoints beside training: one at a time, in a thread of its own, to disk and then to a remote store.

`Saver` belongs to the event loop. What goes wrong in a save is an event; training goes on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
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

STOP_SECONDS = 4.0
"""What a node that was told to stop spends on a last checkpoint."""


@dataclass(frozen=True)
class SavePlan:
    """What a node was told about its checkpoints. every: rounds between two; 0: none."""

    every: int
    keep: Keep
    folder: CheckpointFolder
    inner: bool = True
    """Whether the inner optimizer is saved, too."""
    remote: RemoteStore | None = None


@dataclass(frozen=True)
class SavedRun:
    """What a checkpoint says of the run and of its writer."""

    fields: dict[str, Scalar]
    fingerprint: bytes
    layout: FlatLayout
    peer: str


class Saver:
    """The checkpoints of one node."""

    def __init__(
        self,
        plan: SavePlan,
        run: SavedRun,
        state: OuterState,
        chain: ChainFile,
        copy_inner: Callable[[], Awaitable[InnerState]],
        log: EventLog,
    ) -> None:
        """`copy_inner` copies the inner optimizer's state as soon as it is at rest."""
        self.plan = plan
        self._run, self._state, self._chain, self._copy_inner, self._log = run, state, chain, copy_inner, log
        self._loop = asyncio.get_running_loop()
        self._inner: asyncio.Future[InnerState] | None = None
        self._saving: asyncio.Future[None] | None = None
        self._saved = b""
        """Hash of the head of the last checkpoint that was finished."""
        self._abandoned = False

    # --- what a node does ---

    def prepare(self, round: int) -> None:
        """Training for this round is done: copy the inner optimizer while others train or reduce, if it is due."""
        self._inner = self._begin_copy() if self._due(round) and self.plan.inner else None

    async def after_round(self, head: Head) -> None:
        """Begin to save the state that `head` committed, if it is due; goes on in the background."""
        if self._due(head.height) and self._wanted(head):
            if self._busy():
                text = f"round {head.height} is not saved: the save before it is not over yet"
                self._log.write(events.Notice(message=text))
            else:
                await self._begin(head, await self._inner if self._inner is not None else None)
        self._inner = None

    async def at_end(self, head: Head) -> None:
        """Save what a run ends with, and wait for it."""
        await self._over()
        if self._wanted(head):
            await self._begin(head, await self._begin_copy() if self.plan.inner else None)
            await self._over()

    async def at_stop(self, head: Head, inner: bool = True) -> None:
        """We have to stop: save where we are if that is quick, and give up what is not. `inner`: whether the inner
        optimizer can be saved, too."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._over()
                if self._wanted(head):
                    await self._begin(head, await self._quick_copy() if inner and self.plan.inner else None)
                    await self._over()
        if self._busy():
            self._abandoned = True
            self._log.write(events.Notice(message="the last checkpoint was given up: there was no time to finish it"))

    # --- one save ---

    def _due(self, round: int) -> bool:
        return self.plan.every > 0 and round > 0 and round % self.plan.every == 0

    def _wanted(self, head: Head) -> bool:
        """Whether there is anything to save: a state that is whole, and not on disk yet."""
        on_disk = head.hash == self._saved
        return self.plan.every > 0 and head.height > 0 and not on_disk and self._state.round == head.height

    def _busy(self) -> bool:
        return self._saving is not None and not self._saving.done()

    async def _over(self) -> None:
        """The save that is going on, if one is, has ended."""
        if self._saving is not None:
            await asyncio.shield(self._saving)

    def _begin_copy(self) -> asyncio.Future[InnerState]:
        """Asked for at once: before anything that the trainer is told next."""
        return asyncio.ensure_future(self._copy_inner())

    async def _quick_copy(self) -> InnerState | None:
        """None if the trainer does not come to rest in time: without it, the optimizer will start anew."""
        try:
            return await asyncio.wait_for(self._begin_copy(), STOP_SECONDS / 2)
        except TimeoutError:
            return None

    async def _begin(self, head: Head, inner: InnerState | None) -> None:
        digests = await self._state.digests()  # known already: they are hashed once a round
        if not digests.round == self._state.round == head.height:
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

    # --- in the thread ---

    def _work(self, job: Job, done: asyncio.Future[None]) -> None:
        """Save, upload, delete what is superfluous, and tell."""
        target = self.plan.folder.target(job.snapshot.round, job.peer)
        try:
            self._write(job, target)
            if self.plan.remote is not None and target.exists():
                self._upload(self.plan.remote, target, job.snapshot.round)
        finally:
            self._call(done.set_result, None)

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
        self._call(self._log.write, event)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """On the event loop; if it is gone, nobody wants to know any more."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)
