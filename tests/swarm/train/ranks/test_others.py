"""A rank that is killed, stopped or fails: rank 0 hears of it, with the reason, and waits for nothing."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import threading
from pathlib import Path

import pytest

from swarm.config import Config, NodeConfig
from swarm.train.ranks import watch
from swarm.train.ranks.messages import Load, Step
from swarm.train.ranks.others import OtherRanks, RankLost
from swarm.train.trainer import InnerTrainer
from tests.swarm.train.groups import RUN, losses_of, training

pytestmark = pytest.mark.timeout(300)


class Training:
    """Trains for ever in a thread, until it fails."""

    def __init__(self, trainer: InnerTrainer) -> None:
        self.trained, self.error = threading.Event(), list[Exception]()
        self._trainer = trainer
        self.thread = threading.Thread(target=self._train)
        self.thread.start()

    def _train(self) -> None:
        try:
            self._trainer.train(itertools.count(), 1 << 30, on_step=lambda _step, _loss: self.trained.set())
        except RankLost as error:
            self.error.append(error)


def test_a_killed_rank_ends_what_rank_0_does() -> None:
    with training(3) as (trainer, others):
        work = Training(trainer)
        work.trained.wait()
        os.kill(others.pids[1], signal.SIGKILL)
        work.thread.join(60)
        assert [str(error) for error in work.error] == ["local rank 2 was killed by SIGKILL"]
        assert others.lost is not None
        assert asyncio.run(others.watch()) == others.lost


def test_a_stopped_rank_is_found_and_all_are_killed() -> None:
    with training(2) as (trainer, others):
        work = Training(trainer)
        work.trained.wait()
        os.kill(others.pids[0], signal.SIGSTOP)
        lost = asyncio.run(others.watch())
        assert str(lost) == "rank 1 has given no sign of life for 8 s"
        work.thread.join(60)
        assert [error.lost for error in work.error] == [lost]  # type: ignore[attr-defined]


def test_a_group_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LEAST_SECONDS", 1.0)
    monkeypatch.setattr(watch, "FACTOR", 0.0)
    with training(2) as (trainer, others):
        losses_of(trainer, 3)
        errors, release = list[Exception](), threading.Event()

        def stand_still() -> None:
            step = Step(samples=((0, 3),), ahead=(), of=6, micro_batches=1, at=3)
            try:
                with others.doing(lambda _rank: step):
                    release.wait()  # instead of rank 0's part
            except RankLost as error:
                errors.append(error)

        thread = threading.Thread(target=stand_still)
        thread.start()
        lost = asyncio.run(others.watch())
        assert lost.rank is None
        assert lost.reason.startswith("made no progress in 'step' for")
        release.set()
        thread.join(60)
        assert [error.lost for error in errors] == [lost]  # type: ignore[attr-defined]


def test_a_rank_that_fails_says_why() -> None:
    with training(2) as (trainer, others):
        losses_of(trainer, 1)
        reason = "local rank 1 failed: IndexError: list index out of range"
        with pytest.raises(RankLost, match=reason), others.doing(lambda _rank: Load(vector=9)):
            pass


def test_a_rank_that_cannot_start_says_why(tmp_path: Path) -> None:
    others = OtherRanks.start(2)
    try:
        run = RUN.model_copy(update={"data": "there-is-none"})
        config = Config(run=run, node=NodeConfig(local_world_size=2, data_dir=str(tmp_path)))
        with pytest.raises(RankLost, match=r"local rank 1 failed: .*there-is-none"):
            others.prepare(config, 1000)
    finally:
        others.close()


def test_without_other_ranks_nothing_is_started_or_lost() -> None:
    others = OtherRanks.start(1)
    with others.doing(lambda _rank: Load(vector=0)):
        pass
    assert others.world == 1
    assert others.pids == ()
    assert others.store() is None
    others.close()


def test_a_closed_group_is_collected_whenever_though_its_descriptors_are_long_others() -> None:
    with training(2) as (trainer, _):
        losses_of(trainer, 1)
    del trainer
    others = [os.open("/dev/zero", os.O_RDONLY) for _ in range(100)]
    gc.collect()
    for descriptor in others:
        os.close(descriptor)
