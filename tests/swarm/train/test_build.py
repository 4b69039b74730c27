from __future__ import annotations

from swarm.config import Config, NodeConfig, RunConfig
from swarm.data.open import open_reader
from swarm.train.build import build_trainer, local_config, step_config
from swarm.train.group import LocalGroup
from swarm.train.schedule import Schedule
from swarm.train.step_config import LocalConfig


def test_every_inner_setting_comes_from_the_run() -> None:
    run = RunConfig(batch_size=3, inner_lr=0.5, warmup_steps=7, weight_decay=0.25, grad_clip=0.125)
    inner = step_config(run.model_copy(update={"total_steps": 50, "decay_steps": 9, "z_loss": 1e-4}))
    assert (inner.batch_size, inner.schedule) == (3, Schedule(0.5, 7, 50, 9))
    assert (inner.weight_decay, inner.grad_clip, inner.z_loss) == (0.25, 0.125, 1e-4)


def test_every_local_setting_comes_from_the_node() -> None:
    node = NodeConfig(
        threads=6,
        local_world_size=2,
        micro_batch_size=3,
        activation_checkpointing=2,
        compile=True,
        cpu_offload=True,
        loss_chunk=7,
        peak_tflops=1.5,
    )
    assert local_config(node) == LocalConfig(3, 3, 2, True, True, 7, 1.5)


def test_the_trainer_of_a_run_has_its_model_and_order_of_samples() -> None:
    run = RunConfig(seed=11, sequence_length=32)
    with LocalGroup() as group:
        trainer = build_trainer(Config(run=run), group, threads=1)
    assert trainer.own.model_config.name == "demo"
    assert trainer.layout.count == 820_352
    inputs_BL = trainer.own.reader.batch(range(3)).inputs_BL
    assert inputs_BL.shape == (3, 32)
    assert (inputs_BL == open_reader(run).batch(range(3)).inputs_BL).all()
    assert (inputs_BL != open_reader(run.model_copy(update={"seed": 12})).batch(range(3)).inputs_BL).any()
