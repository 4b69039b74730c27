"""Small runs to save and to load: a layout, an outer state with a history, and checkpoints of it on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ops.codec import get_codec
from ops.layout import FlatLayout
from p2p.chain_file import ChainFile
from p2p.protocol.chain import record_hash
from p2p.protocol.plan import Head
from p2p.transfer.state import StateDigests, part_digests
from swarm.checkpoint.folder import CheckpointFolder
from swarm.checkpoint.inner import InnerState
from swarm.checkpoint.manifest import Manifest
from swarm.checkpoint.snapshot import Snapshot
from swarm.checkpoint.writer import Job, write_checkpoint
from swarm.outer_state import OuterState
from tests.p2p.protocol.records import FINGERPRINT, history, peer

LAYOUT = FlatLayout.of([("embedding.weight", (64, 32)), ("layers.0.norm.weight", (32,)), ("output.weight", (77, 32))])
CHUNK = 1024
ME = peer(1)


def vectors(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.standard_normal(LAYOUT.count, np.float32), random.standard_normal(LAYOUT.count, np.float32)


def inner(seed: int) -> InnerState:
    first, second = vectors(1000 + seed)
    return InnerState({"exp_avg": first, "exp_avg_sq": second}, steps=10 * seed)


@dataclass
class World:
    """A state at some round, and the records that lead there."""

    state: OuterState
    chain: ChainFile
    folder: CheckpointFolder

    def job(self, peer_id: str = ME, with_inner: bool = True) -> Job:
        round = self.state.round
        assert round is not None
        record = self.chain.record(round).record
        parts = [part_digests(self.state.read(index)[1]) for index in range(self.state.chunks)]
        return Job(
            run={"name": "test", "model": "demo"},
            fingerprint=FINGERPRINT,
            head=record_hash(record),
            tokens_total=record.tokens_total,
            state_root=StateDigests.of(round, parts).root,
            peer=peer_id,
            layout=LAYOUT,
            snapshot=self.state.snapshot(),
            records=self.chain.raw(round),
            inner=inner(round) if with_inner else None,
        )

    def save(self, peer_id: str = ME, with_inner: bool = True) -> tuple[Path, Manifest]:
        job = self.job(peer_id, with_inner)
        target = self.folder.target(job.snapshot.round, peer_id)
        manifest = write_checkpoint(job, target)
        self.state.release(job.snapshot)
        return target, manifest


def state_at(round: int, pool: ThreadPoolExecutor, seed: int | None = None) -> OuterState:
    theta_P, momentum_P = vectors(round if seed is None else seed)
    return OuterState(
        theta_P,
        momentum_P,
        codec=get_codec("int8"),
        lr=0.7,
        momentum=0.9,
        pool=pool,
        round=round,
        chunk_values=CHUNK,
    )


@contextmanager
def world(path: Path, round: int, tokens: int = 100) -> Iterator[World]:
    path.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool, chain_of(path / f"chain-{round}-{tokens}", round + 1, tokens) as chain:
        yield World(state_at(round, pool), chain, CheckpointFolder(path / "checkpoints"))


@contextmanager
def chain_of(path: Path, length: int, tokens: int = 100) -> Iterator[ChainFile]:
    path.parent.mkdir(parents=True, exist_ok=True)
    chain = ChainFile(path, FINGERPRINT)
    try:
        for one in history(length, tokens=tokens)[chain.tip.height + 1 :]:
            chain.append(one)
        yield chain
    finally:
        chain.close()


def head_of(chain: ChainFile, round: int) -> Head:
    return Head(FINGERPRINT, chain.record(round).record)


def state_of(theta_P: np.ndarray, momentum_P: np.ndarray, round: int, size: int = 100_000) -> Snapshot:
    """A snapshot of vectors that nobody changes."""
    return Snapshot(
        round,
        [threading.Lock() for _ in range(-(-theta_P.size // size))],
        lambda index: tuple(x_P[index * size : (index + 1) * size] for x_P in (theta_P, momentum_P)),
    )
