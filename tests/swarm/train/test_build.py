from __future__ import annotations

from swarm.config import Config, RunConfig
from swarm.data.open import open_reader
from swarm.train.build import build_trainer, step_config
from swarm.train.group import LocalGroup


def test_every_inner_setting_comes_from_the_run() -> None:
    run = RunConfig(batch_size=3, inner_lr=0.5, warmup_steps=7, weight_decay=0.25, grad_clip=0.125)
    inner = step_config(run)
    assert (inner.batch_size, inner.learning_rate) == (3, 0.5)
    assert (inner.warmup_steps, inner.weight_decay, inner.grad_clip) == (7, 0.25, 0.125)


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
