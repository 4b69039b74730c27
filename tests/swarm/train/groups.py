"""Real local groups for tests: this process is rank 0, the others are processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from swarm.config import Config, NodeConfig, RunConfig
from swarm.train.build import open_trainer
from swarm.train.ranks.others import OtherRanks
from swarm.train.trainer import InnerTrainer

RUN = RunConfig(model="demo", sequence_length=32, batch_size=6, warmup_steps=10, z_loss=1e-3)


@contextmanager
def training(world: int, run: RunConfig = RUN, **settings: Any) -> Iterator[tuple[InnerTrainer, OtherRanks]]:
    """A trainer on `world` ranks with the initial parameters of the run in theta and in the model."""
    node = NodeConfig(threads=1, local_world_size=world, **settings)
    others = OtherRanks.start(world)
    try:
        trainer = open_trainer(Config(run=run, node=node), others)
        try:
            trainer.initial(run.seed, trainer.vectors.theta_P)
            trainer.load_flat(trainer.vectors.theta_P)
            yield trainer, others
        finally:
            trainer.close()
    finally:
        others.close()


def losses_of(trainer: InnerTrainer, steps: int, first: int = 0) -> list[float]:
    losses: list[float] = []
    samples = iter(range(first, first + steps * trainer.own.config.batch_size))
    at = first // trainer.own.config.batch_size
    trainer.train(samples, steps, on_step=lambda _, loss: losses.append(loss), first_step=at)
    return losses
