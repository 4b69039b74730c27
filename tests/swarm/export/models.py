"""Small models and checkpoints of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from p2p.chain_file import ChainFile
from p2p.protocol.chain import record_hash
from swarm.checkpoint.folder import CheckpointFolder
from swarm.checkpoint.source import model_layout
from swarm.checkpoint.writer import Job, write_checkpoint
from swarm.generate.command import filled
from swarm.model.initial import initial_theta
from swarm.model.llama import Llama
from swarm.model.sizes import ModelConfig
from tests.p2p.protocol.records import FINGERPRINT
from tests.swarm.checkpoint.saved import ME, chain_of, state_of

BYTES = ModelConfig("bytes", dim=48, layers=3, heads=6, kv_heads=2, ffn=80, vocab=256, tied=True)
WIDE = ModelConfig(
    "wide", dim=64, layers=2, heads=4, kv_heads=4, ffn=96, vocab=1000, tied=False, rope_theta=500_000.0, norm_eps=1e-6
)
CONTEXT = 64


def theta_of(model: ModelConfig, seed: int = 5) -> np.ndarray:
    """Random parameters, norms too: a norm of ones would hide a norm left out."""
    layout = model_layout(model)
    theta_P = initial_theta(layout, model, seed)
    random = np.random.default_rng(seed)
    for entry in layout.entries:
        if len(entry.shape) == 1:
            theta_P[entry.start : entry.stop] = random.uniform(0.5, 1.5, entry.stop - entry.start)
    return theta_P


def ours(model: ModelConfig, theta_P: np.ndarray) -> Llama:
    return filled(model, model_layout(model), torch.from_numpy(theta_P.copy()), "cpu")


def checkpoint(path: Path, model: ModelConfig, round: int = 3, seed: int = 5) -> Path:
    """A checkpoint in path/checkpoints, as a node's state directory has it."""
    with chain_of(path / f"chain-{round}", round + 1) as chain:
        return _save(path, model, round, seed, chain)


def _save(path: Path, model: ModelConfig, round: int, seed: int, chain: ChainFile) -> Path:
    theta_P = theta_of(model, seed)
    record = chain.record(round).record
    target = CheckpointFolder(path / "checkpoints").target(round, ME)
    job = Job(
        run={"name": "test", "sequence_length": CONTEXT} | {f"model.{k}": v for k, v in asdict(model).items()},
        fingerprint=FINGERPRINT,
        head=record_hash(record),
        tokens_total=record.tokens_total,
        state_root=bytes(32),
        peer=ME,
        layout=model_layout(model),
        snapshot=state_of(theta_P, np.zeros_like(theta_P), round),
        records=chain.raw(round),
    )
    write_checkpoint(job, target)
    return target
