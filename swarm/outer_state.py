"""The state that all members share: theta and the outer momentum, in CPU memory, moved by committed rounds only.

Shape suffix: _P the flat vector's values, _C one entry a chunk.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ops.codec import Codec, Encoded
from ops.digest import Buffer, digest
from ops.outer_step import nesterov_step_encoded
from p2p.protocol.fragments import Fragments
from p2p.protocol.holdings import EMPTY
from p2p.transfer.state import CHUNK_VALUES, StateDigests
from swarm.checkpoint.snapshot import Snapshot

KEEP_MEANS = 4
"""Outer steps of everything whose means a node keeps."""

Floats: TypeAlias = npt.NDArray[np.float32]
T = TypeVar("T")


class OuterState:
    """A `p2p.transfer.state.StateStore` over two fp32 vectors.

    Each chunk has a lock and the number of the round it is at, so donors may read while a round is applied: what they
    get is of one round, and labelled with it. `apply` and `digests` belong to the event loop and run in `pool`.
    """

    def __init__(
        self,
        theta_P: Floats,
        momentum_P: Floats,
        *,
        codec: Codec,
        lr: float,
        momentum: float,
        pool: Executor,
        round: int = -1,
        chunk_values: int = CHUNK_VALUES,
        keep_means: int = KEEP_MEANS,
        keep_bytes: int | None = None,
        fragments: Fragments | None = None,
    ) -> None:
        """The vectors are used as they are, not copied. `round`: of their contents, -2 if they hold nothing yet.
        `codec`: of contributions; that of means follows from it.

        The means of so many outer steps of everything (`keep_means`) are kept for those who fall behind, or as many as
        fit into `keep_bytes`. `fragments`: what each round moves; None: everything.
        """
        assert theta_P.dtype == momentum_P.dtype == np.float32
        assert theta_P.shape == momentum_P.shape
        assert theta_P.ndim == 1
        assert theta_P.size > 0
        assert chunk_values % codec.block == 0
        self.theta_P, self.momentum_P = theta_P, momentum_P
        self.codec = codec.of_means
        self.fragments = fragments or Fragments.whole(theta_P.size)
        assert self.fragments.count == theta_P.size
        assert all(bound % codec.block == 0 for bound in self.fragments.bounds[:-1])
        self.chunk_values = chunk_values
        self.means: dict[int, Encoded] = {}
        self.manifests: dict[int, Sequence[bytes]] = {}
        self._lr, self._mu = lr, momentum
        self._pool = pool
        self._keep_means, self._keep_bytes = keep_means * len(self.fragments), keep_bytes
        chunks = -(-theta_P.size // chunk_values)
        self._round_C = [round] * chunks
        self._locks_C = [threading.Lock() for _ in range(chunks)]
        self._turn = asyncio.Lock()
        self._digests: StateDigests | None = None
        self._parts_C: list[tuple[bytes, bytes] | None] = [None] * chunks
        """The digests of theta and momentum in each chunk; None where they must be taken anew."""
        self._snapshots: tuple[Snapshot, ...] = ()
        self._snapshots_lock = threading.Lock()

    @property
    def count(self) -> int:
        return self.theta_P.size

    @property
    def chunks(self) -> int:
        return len(self._round_C)

    @property
    def round(self) -> int | None:
        """The round that all chunks are at; None while they differ or nothing is held."""
        rounds = set(self._round_C)
        return rounds.pop() if len(rounds) == 1 and EMPTY not in rounds else None

    # --- a round commits ---------------------------------------------------------------------------------------------

    async def apply(self, mean: Encoded | None, round: int) -> None:
        """The outer step of `round` on its fragment; all chunks must be one round short of it. `mean` is kept and must
        not be changed any more; None: the round had no weight, and nothing moves."""
        async with self._turn:
            assert self.round == round - 1, (self.round, round)
            if mean is not None:
                assert mean.codec is self.codec
                assert mean.count == self.fragments.size(round)
                self.keep(mean, round)
            await self._each_chunk(lambda index: self._step(index, round, mean))

    def keep(self, mean: Encoded, round: int) -> None:
        """Have the committed mean of `round` at hand for replay, without applying it (a member that is behind)."""
        self.means[round] = mean
        room = self._keep_means if self._keep_bytes is None else min(self._keep_means, self._keep_bytes // mean.nbytes)
        for old in sorted(self.means)[: max(0, len(self.means) - room)]:
            del self.means[old]

    def kept_sizes(self) -> list[int]:
        """Values of each mean that will be kept at a time."""
        sizes = [self.fragments.size(round) for round in range(self._keep_means)]
        if sizes and self._keep_bytes is not None:
            largest = self.codec.code_bytes(max(sizes)) + 4 * self.codec.scale_count(max(sizes))
            return sizes[: self._keep_bytes // largest]
        return sizes

    def forget_history(self) -> None:
        self.means.clear()
        self.manifests.clear()
        self._digests = None

    async def digests(self) -> StateDigests:
        async with self._turn:
            round = self.round
            assert round is not None, "chunks of several rounds have no common digest"
            if self._digests is None or self._digests.round != round:
                found = StateDigests.of(round, await self._each_chunk(self._hash))
                self._digests = found
                self.manifests[round] = found.chunks
                for old in sorted(self.manifests)[: -self._keep_means - 1]:
                    del self.manifests[old]
            return self._digests

    # --- for checkpoints ---------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The state as it is now, whatever happens to it while the snapshot is read. Give it back with `release`."""
        round = self.round
        assert round is not None, "chunks of several rounds are no state"
        snapshot = Snapshot(round, self._locks_C, self._chunk)
        with self._snapshots_lock:
            self._snapshots = (*self._snapshots, snapshot)
        return snapshot

    def release(self, snapshot: Snapshot) -> None:
        """It is read; from any thread."""
        with self._snapshots_lock:
            self._snapshots = tuple(other for other in self._snapshots if other is not snapshot)
        snapshot.close()

    # --- a chunk at a time: for donors and newcomers, from any thread -------------------------------------------------

    def version(self, index: int) -> int:
        return self._round_C[index]

    def read(self, index: int) -> tuple[int, bytearray]:
        theta_P, momentum_P = self._chunk(index)
        data = bytearray(2 * theta_P.nbytes)
        copy_P = np.frombuffer(data, np.float32)
        with self._locks_C[index]:
            copy_P[: theta_P.size], copy_P[theta_P.size :] = theta_P, momentum_P
            return self._round_C[index], data

    def write(self, index: int, round: int, data: Buffer) -> None:
        theta_P, momentum_P = self._chunk(index)
        new_P = np.frombuffer(data, np.float32)
        assert new_P.size == 2 * theta_P.size
        with self._locks_C[index]:
            self._keep_for_snapshots(index)
            theta_P[:], momentum_P[:] = new_P[: theta_P.size], new_P[theta_P.size :]
            self._round_C[index] = round
            self._digests = self._parts_C[index] = None
            self.manifests.clear()

    def replayed(self, index: int, round: int, mean: Encoded | None) -> bytearray:
        found, data = self.read(index)
        assert found == round - 1, (found, round)
        if mean is not None:
            copy_P = np.frombuffer(data, np.float32)
            theta_P, momentum_P = copy_P[: copy_P.size // 2], copy_P[copy_P.size // 2 :]
            moved = self._moved(index, round)
            assert mean.count == moved.stop - moved.start
            nesterov_step_encoded(theta_P[moved], momentum_P[moved], mean, lr=self._lr, momentum=self._mu)
        return data

    def _step(self, index: int, round: int, mean: Encoded | None) -> None:
        theta_P, momentum_P = self._chunk(index)
        with self._locks_C[index]:
            moved = self._moved(index, round)
            if mean is not None and moved.start < moved.stop:
                self._keep_for_snapshots(index)
                self._parts_C[index] = None
                begin = self._bounds(index)[0] - self.fragments.span(round)[0]
                piece = mean.slice(begin + moved.start, begin + moved.stop)
                nesterov_step_encoded(theta_P[moved], momentum_P[moved], piece, lr=self._lr, momentum=self._mu)
            self._round_C[index] = round

    def _moved(self, index: int, round: int) -> slice:
        """What the round moves of the chunk, counted from its start."""
        bounds = self._bounds(index)
        start, stop = self.fragments.touched(round, *bounds)
        return slice(start - bounds[0], stop - bounds[0])

    def _keep_for_snapshots(self, index: int) -> None:
        """The chunk, whose lock is held, is about to change."""
        for snapshot in self._snapshots:
            snapshot.keep(index)

    def _hash(self, index: int) -> tuple[bytes, bytes]:
        theta_P, momentum_P = self._chunk(index)
        with self._locks_C[index]:
            parts = self._parts_C[index]
            if parts is None:
                parts = self._parts_C[index] = digest(theta_P), digest(momentum_P)
            return parts

    def _bounds(self, index: int) -> tuple[int, int]:
        start = index * self.chunk_values
        return start, min(start + self.chunk_values, self.count)

    def _chunk(self, index: int) -> tuple[Floats, Floats]:
        start, stop = self._bounds(index)
        return self.theta_P[start:stop], self.momentum_P[start:stop]

    async def _each_chunk(self, work: Callable[[int], T]) -> list[T]:
        """Results of `work` on every chunk, in their order. Never half-done: a cancellation waits for the threads."""
        loop = asyncio.get_running_loop()
        jobs = [loop.run_in_executor(self._pool, work, index) for index in range(self.chunks)]
        done = asyncio.gather(*jobs)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await done
            raise
