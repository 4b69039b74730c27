from __future__ import annotations

import itertools

import pytest
import torch.distributed as dist

from swarm.baseline import Stopped, run_baseline
from swarm.config import Config, RunConfig
from swarm.train.build import build_trainer
from swarm.train.group import LocalGroup

RUN = RunConfig(sequence_length=32, batch_size=2, warmup_steps=4)


def test_each_baseline_trains_on_its_share_of_the_tokens() -> None:
    seen: dict[str, list[tuple[int, int]]] = {"alone": [], "data parallel": []}
    tokens = 2 * 5 * 2 * 32  # nodes, steps, batch, length
    result = run_baseline(
        RUN, total_tokens=tokens, nodes=2, progress=lambda name, step, steps, _: seen[name].append((step, steps))
    )
    assert seen["alone"] == [(step, 10) for step in range(10)]
    assert seen["data parallel"] == [(step, 5) for step in range(5)]
    assert result.alone_all_tokens < result.alone < 5.6
    assert result.data_parallel < 5.6
    assert not dist.is_initialized()


def test_alone_is_what_one_node_would_reach() -> None:
    result = run_baseline(RUN, total_tokens=3 * 2 * 32 * 2, nodes=2)
    with LocalGroup() as group:
        trainer = build_trainer(Config(run=RUN), group, threads=1)
        trainer.load_flat(trainer.initial(RUN.seed))
        trainer.train(itertools.count(), 3)
        assert result.alone == trainer.evaluate()


def test_it_stops_when_asked_and_frees_the_group() -> None:
    asked = itertools.count()
    with pytest.raises(Stopped):
        run_baseline(RUN, total_tokens=10_000, nodes=2, should_stop=lambda: next(asked) > 2)
    assert not dist.is_initialized()
