"""From a node's configuration to its trainer."""

from __future__ import annotations

import os
from dataclasses import replace

import torch

from swarm.config import Config, NodeConfig, RunConfig
from swarm.data.open import open_reader
from swarm.model.llama import Llama
from swarm.model.sizes import model_config
from swarm.train.determinism import be_deterministic
from swarm.train.flat import layout_of
from swarm.train.group import LocalGroup
from swarm.train.rank import RankTrainer
from swarm.train.ranks.messages import Form
from swarm.train.ranks.others import OtherRanks
from swarm.train.schedule import Schedule
from swarm.train.step_config import LocalConfig, StepConfig
from swarm.train.trainer import InnerTrainer


def step_config(run: RunConfig) -> StepConfig:
    """The part of `[run]` that inner training needs."""
    return StepConfig(
        batch_size=run.batch_size,
        optimizer=run.inner_optimizer,
        schedule=Schedule(run.inner_lr, run.warmup_steps, run.total_steps, run.decay_steps),
        weight_decay=run.weight_decay,
        grad_clip=run.grad_clip,
        z_loss=run.z_loss,
        fragments=run.fragments,
        precision=run.precision,
    )


def local_config(node: NodeConfig) -> LocalConfig:
    """The part of `[node]` that one of its ranks needs."""
    return LocalConfig(
        threads=max(1, (node.threads or cores()) // node.local_world_size),
        micro_batch_size=node.micro_batch_size or 0,
        activation_checkpointing=node.activation_checkpointing,
        compile=node.compile,
        cpu_offload=node.cpu_offload,
        loss_chunk=node.loss_chunk,
        peak_tflops=node.peak_tflops,
    )


def build_rank(config: Config, group: LocalGroup, threads: int | None = None) -> RankTrainer:
    """One rank of this node; its parameters are not set yet (initial(run.seed), then load_flat)."""
    run, local = config.run, local_config(config.node)
    if threads is not None:
        local = replace(local, threads=threads)
    return RankTrainer(model_config(run.model), step_config(run), open_reader(run, config.node), group, local)


def build_trainer(config: Config, group: LocalGroup, threads: int | None = None) -> InnerTrainer:
    """The trainer of a node with one rank."""
    return InnerTrainer(build_rank(config, group, threads))


def open_trainer(config: Config, others: OtherRanks) -> InnerTrainer:
    """The trainer of a node, its group formed with the other ranks; its parameters and vectors are not set yet.

    Raises SwarmError for what the configuration asks in vain, RankLost if a rank does not get that far.
    """
    if config.node.deterministic:
        be_deterministic()
    with torch.device("meta"):
        count = layout_of(Llama(model_config(config.run.model))).count
    vectors = others.prepare(config, count)
    with others.doing(lambda _rank: Form()):
        group = LocalGroup(config.node.device, 0, others.world, others.store())
        own = build_rank(config, group)
    return InnerTrainer(own, others, vectors)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))
