"""Keeps the state file close to the state in memory, so that a node that starts again fetches only what changed.

During a fetch chunks are written as they come; afterwards in passes over all chunks, with rests between them: however
fast rounds follow each other, passes take a tenth of the time. A chunk is copied under its lock and written from the
copy, so nobody waits for the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from p2p.listener import Listener
from p2p.protocol.holdings import EMPTY
from p2p.transfer.state import StateStore
from p2p.transfer.state_file import StateFile

LOOK_SECONDS = 1.0
"""How often it looks for chunks that have changed."""
REST = 9.0
"""Rest after a pass, in multiples of the time it took; while chunks are coming it is as long as the pass."""
STALE_ROUNDS = 3
"""While chunks are still coming, one on disk that is so far behind is written again: few means are kept for longer."""

T = TypeVar("T")


class StateKeeper:
    """Belongs to the event loop; reads, hashes and writes in a thread of its own. Closes the file it was given."""

    def __init__(self, store: StateStore, file: StateFile, listener: Listener) -> None:
        """The listener hears of `notice` and `error` (message)."""
        self._store, self._file, self._listener = store, file, listener
        self._chunks = range(-(-store.count // store.chunk_values))
        self._first = [store.version(index) for index in self._chunks]
        self._thread = ThreadPoolExecutor(1, "state-file")
        self._running: asyncio.Task[None] | None = None
        self._restored = False

    def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def restore(self) -> None:
        """Take up what is newer on disk than in the store; the first time only. To be called when a fetch begins."""
        if self._restored:
            return
        try:
            found = sum([await self._in_thread(self._restore, index) for index in self._chunks])
        except OSError as error:
            self._listener("error", {"message": f"{self._file.path} cannot be read: {error.strerror}"})
        else:
            if found:
                message = f"{found} of {len(self._chunks)} chunks of the state are on disk from before"
                self._listener("notice", {"message": message})
        self._restored = True

    async def save(self) -> int:
        """One pass: write the chunks that are due, and say how many. Raises OSError."""
        whole = self._whole
        due = [index for index in self._chunks if self._due(index, whole)]
        for index in due:
            await self._in_thread(self._save, index)
        return len(due)

    @property
    def _whole(self) -> bool:
        """Whether all chunks are of one round: else some are still coming."""
        return len({self._store.version(index) for index in self._chunks}) == 1

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        self._thread.shutdown()
        self._file.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                await self.save()
                rest = REST if self._whole else 1.0
                await asyncio.sleep(max(LOOK_SECONDS, rest * (loop.time() - began)))
        except OSError as error:
            message = (
                f"{self._file.path} is not kept up any more: {error.strerror}; a restart will fetch the whole state"
            )
            self._listener("error", {"message": message})

    def _due(self, index: int, whole: bool) -> bool:
        held, kept = self._store.version(index), self._file.round(index)
        if held in (kept, self._first[index], EMPTY):
            return False  # what this life began with is on disk elsewhere, or genesis, and not newer than the file
        return whole or kept == EMPTY or not 0 < held - kept < STALE_ROUNDS

    def _save(self, index: int) -> None:
        self._file.write(index, *self._store.read(index))

    def _restore(self, index: int) -> bool:
        if self._file.round(index) <= self._store.version(index):
            return False
        found = self._file.read(index)
        if found is None:
            return False
        self._store.write(index, *found)
        return True

    async def _in_thread(self, work: Callable[[int], T], index: int) -> T:
        """A cancellation waits for the thread, so that nothing is written afterwards."""
        job = asyncio.get_running_loop().run_in_executor(self._thread, work, index)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])
            raise
