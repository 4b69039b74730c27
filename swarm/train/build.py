"""From a run's configuration to a trainer."""

from __future__ import annotations

from swarm.config import Config, RunConfig
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


def build_trainer(config: Config, group: LocalGroup, threads: int) -> InnerTrainer:
    """The trainer of this node; its parameters are not set yet (initial(run.seed), then load_flat)."""
    run = config.run
    reader = open_reader(run, config.node)
    return InnerTrainer(model_config(run.model), inner_config(run), reader, group, threads=threads)
