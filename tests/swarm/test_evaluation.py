"""Held-out loss in spare time: the same number however often it was interrupted, and the trainer is free at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest

from swarm.config import Config, RunConfig
from swarm.evaluation import SpareTimeEvaluation
from swarm.train.build import build_trainer
from swarm.train.group import LocalGroup
from swarm.train.trainer import InnerTrainer, Progress

CONFIG = Config(run=RunConfig(model="demo", sequence_length=64, batch_size=2))


@pytest.fixture(scope="module")
def trainer() -> Iterator[InnerTrainer]:
    with LocalGroup() as group:
        yield build_trainer(CONFIG, group, 1)


def test_an_interrupted_evaluation_is_of_the_parameters_that_it_began_with(
    trainer: InnerTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    theta_P = trainer.initial(1)
    trainer.load_flat(theta_P)
    whole = trainer.evaluate()
    other_P, trained_P = theta_P * 2, np.empty_like(theta_P)
    evaluation = SpareTimeEvaluation(trainer)
    evaluation.begin(7)
    evaluate, pieces = trainer.own.evaluate, count()

    def pausing(start: int, stop: int) -> float:
        if next(pieces) % 2:
            evaluation.pause()
        return evaluate(start, stop)

    monkeypatch.setattr(trainer.own, "evaluate", pausing)
    times, found = 0, None
    while found is None:
        evaluation.resume()
        found = evaluation.go_on()
        times += 1
        evaluation.make_way()  # the next round: other parameters in the model
        trainer.load_flat(other_P)
        trainer.train(iter(range(4)), 1)
        trainer.store_flat(trained_P)
        evaluation.come_back()
        assert np.array_equal(trainer.vectors.local_P, trained_P), "what goes into the mean"
    assert times > 2
    assert (found.round, found.held_out_loss) == (7, pytest.approx(whole, abs=1e-6))
    assert not evaluation.under_way


def test_a_paused_evaluation_touches_nothing(trainer: InnerTrainer) -> None:
    evaluation = SpareTimeEvaluation(trainer)
    theta_P, back_P = trainer.initial(3), np.empty(trainer.layout.count, np.float32)
    trainer.load_flat(theta_P)
    evaluation.begin(0)
    evaluation.pause()
    assert evaluation.go_on() is None
    trainer.store_flat(back_P)
    assert np.array_equal(back_P, theta_P)


def test_the_trainer_is_free_after_one_batch(trainer: InnerTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer.load_flat(trainer.initial(1))
    evaluation, evaluate, calls = SpareTimeEvaluation(trainer), trainer.own.evaluate, count()
    within, go = threading.Event(), threading.Event()

    def slow(start: int, stop: int) -> float:
        next(calls)
        within.set()
        assert go.wait(20)
        return evaluate(start, stop)

    monkeypatch.setattr(trainer.own, "evaluate", slow)
    evaluation.begin(0)
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(evaluation.go_on)
        assert within.wait(20)
        evaluation.pause()
        go.set()
        assert result.result() is None
    assert next(calls) == 1


def test_progress_goes_on_where_it_stopped(trainer: InnerTrainer) -> None:
    trainer.load_flat(trainer.initial(1))
    whole, progress, asked = trainer.evaluate(), Progress(), count()
    assert np.isnan(trainer.evaluate(lambda: next(asked) == 3, progress))
    assert 0 < progress.samples < len(trainer.own.held_out)
    assert trainer.evaluate(progress=progress) == pytest.approx(whole, abs=1e-6)


def test_neither_training_nor_readiness_waits_for_an_evaluation(
    trainer: InnerTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one is put aside, a round costs two copies of the parameters more, and not one forward pass."""
    evaluation, pieces = SpareTimeEvaluation(trainer), list[int]()
    trainer.load_flat(trainer.initial(1))
    evaluation.begin(0)
    evaluation.pause()
    monkeypatch.setattr(trainer.own, "evaluate", lambda start, _stop: pieces.append(start))
    assert evaluation.go_on() is None
    evaluation.make_way()
    trainer.train(iter(range(4)), 1)
    evaluation.come_back()
    assert evaluation.go_on() is None
    assert pieces == []
    assert evaluation.under_way


def test_an_evaluation_that_was_paused_before_it_began_is_not_lost(trainer: InnerTrainer) -> None:
    theta_P = trainer.initial(1)
    trainer.load_flat(theta_P)
    whole = trainer.evaluate()
    evaluation = SpareTimeEvaluation(trainer)
    evaluation.begin(4)
    evaluation.pause()
    assert evaluation.go_on() is None
    evaluation.make_way()
    trainer.load_flat(theta_P * 3)
    evaluation.come_back()
    evaluation.resume()
    found = evaluation.go_on()
    assert found is not None
    assert (found.round, found.held_out_loss) == (4, whole)


def test_the_vectors_of_a_node_are_those_of_the_outer_state_and_no_more(trainer: InnerTrainer) -> None:
    assert len(trainer.vectors.all_P) == 2, "theta and local; momentum is the third of 12 bytes a parameter"
