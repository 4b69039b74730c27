"""From a run's configuration to a trainer."""

from __future__ import annotations

from swarm.config import RunConfig
from swarm.data.open import open_reader
from swarm.model.sizes import model_config
from swarm.train.group import LocalGroup
from swarm.train.trainer import InnerConfig, InnerTrainer


def inner_config(run: RunConfig) -> InnerConfig:
    """The part of `[run]` that inner training needs."""
    return InnerConfig(
        batch_size=run.batch_size,
        learning_rate=run.inner_lr,
        warmup_steps=run.warmup_steps,
        weight_decay=run.weight_decay,
        grad_clip=run.grad_clip,
    )


def build_trainer(run: RunConfig, group: LocalGroup, threads: int) -> InnerTrainer:
    """The trainer of a node of this run; its parameters are not set yet (initial(run.seed), then load_flat)."""
    return InnerTrainer(model_config(run.model), inner_config(run), open_reader(run), group, threads=threads)
