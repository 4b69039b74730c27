"""Steps taken ahead of a commit: they count once, wherever the commit comes, and move from what it brings."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from ops.codec import get_codec
from ops.encoded import Encoded
from ops.error_feedback import ErrorFeedback
from p2p.protocol.fragments import Fragments
from p2p.protocol.messages import Seat
from swarm.config import Config, RunConfig
from swarm.evaluation import SpareTimeEvaluation
from swarm.inner_training import InnerTraining, Work, share_of
from swarm.train.build import build_trainer
from swarm.train.group import LocalGroup
from swarm.train.trainer import InnerTrainer
from tests.p2p.protocol.records import history, peer

RUN = RunConfig(
    model="demo", sequence_length=32, batch_size=2, inner_steps=4, overlap_steps=3, overlap_weight=1.0, warmup_steps=0
)
FIRST, SECOND = ((0, 14),), ((8, 16), (20, 26))
"""What the ledger gives for two rounds: what the first leaves, [8, 14), is still ours in the second."""
CODEC = get_codec("fp32")

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def trainer() -> Iterator[InnerTrainer]:
    with LocalGroup() as group:
        yield build_trainer(Config(run=RUN), group, 1)


def begin(trainer: InnerTrainer, run: RunConfig = RUN, fragments: Fragments | None = None) -> InnerTraining:
    """At the initial parameters, the optimizer as new."""
    fragments = fragments or Fragments.whole(trainer.layout.count)
    theta_P = trainer.initial(RUN.seed, trainer.vectors.theta_P)
    if names := trainer.own.optimizer_vectors():
        zero_P = np.zeros_like(theta_P)
        trainer.own.load_optimizer(dict.fromkeys(names, zero_P), 0)
    return InnerTraining(run, trainer, SpareTimeEvaluation(trainer), CODEC, theta_P, fragments)


def after(steps: int, trainer: InnerTrainer) -> Callable[[], bool]:
    """Stop after so many steps."""
    last = trainer.own.steps_taken + steps
    return lambda: trainer.own.steps_taken >= last


def never() -> bool:
    return False


def silent(_step: int, _loss: float) -> None:
    pass


def pseudo_gradient(trainer: InnerTrainer, work: Work) -> Floats:
    """What the round would send."""
    codes = Encoded.allocate(CODEC, trainer.layout.count)
    assert work.source is not None
    work.source(0, codes.count, codes)
    out_P = np.empty(codes.count, np.float32)
    CODEC.decode(codes, out_P)
    return out_P


def test_steps_ahead_go_on_and_what_the_commit_brings_is_added(trainer: InnerTrainer) -> None:
    """Without an interruption by the commit, the second round would be the sum of its steps; with it, it is, too."""
    inner = begin(trainer)
    first, _ = inner.train(1, FIRST, None, never, silent)
    straight = trainer.train(iter(range(8, 16)), RUN.inner_steps, first_step=RUN.inner_steps)
    moved_P = np.empty_like(trainer.vectors.local_P)
    trainer.store_flat(moved_P)
    moved_P -= trainer.vectors.local_P

    inner = begin(trainer)
    inner.train(1, FIRST, None, never, silent)
    ahead = inner.go_ahead(2, ((8, 14),), after(2, trainer))
    assert ahead is not None
    assert (ahead.steps, ahead.used) == (2, ((8, 12),))
    trainer.vectors.theta_P[:] = trainer.vectors.local_P  # a commit that brings what we did ourselves
    steps: list[int] = []
    second, finite = inner.train(2, SECOND, ahead, never, lambda step, _loss: steps.append(step))
    assert finite
    assert steps == [2, 3]
    assert (first.used, second.used) == (((0, 8),), ((8, 16),))
    assert second.result is not None
    assert second.result.loss == pytest.approx(straight.loss, rel=1e-5)
    assert (second.tokens, second.result.steps, second.ahead) == (first.tokens, RUN.inner_steps, 2)
    np.testing.assert_allclose(-pseudo_gradient(trainer, second), moved_P, atol=1e-6)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_the_commit_moves_the_parameters_and_not_the_pseudo_gradient(trainer: InnerTrainer, weight: float) -> None:
    inner = begin(trainer, RUN.model_copy(update={"overlap_weight": weight}))
    inner.train(1, FIRST, None, never, silent)
    ahead = inner.go_ahead(2, ((8, 14),), never)
    assert ahead is not None
    assert ahead.steps == RUN.overlap_steps
    before_P, now_P = trainer.vectors.local_P.copy(), np.empty_like(trainer.vectors.local_P)
    trainer.store_flat(now_P)
    trainer.vectors.theta_P[:] += np.float32(0.5)
    second, _ = inner.train(2, SECOND, ahead, after(0, trainer), silent)
    np.testing.assert_allclose(pseudo_gradient(trainer, second), weight * (before_P - now_P), atol=1e-6)
    assert second.used == ((8, 14),)
    assert second.result is not None
    assert second.result.steps == RUN.overlap_steps


def test_a_commit_before_the_first_step_ahead_leaves_nothing_behind(trainer: InnerTrainer) -> None:
    inner = begin(trainer)
    inner.train(1, FIRST, None, never, silent)
    assert inner.go_ahead(2, ((8, 14),), after(0, trainer)) is None
    assert inner.go_ahead(2, (), never) is None, "no samples are left"


def test_what_is_not_finite_contributes_nothing(trainer: InnerTrainer) -> None:
    inner = begin(trainer)
    trainer.vectors.theta_P[0] = np.inf
    work, finite = inner.train(1, FIRST, None, never, silent)
    assert not finite
    assert (work.tokens, work.used, work.source) == (0, (), None)


def test_a_coarse_codec_writes_what_earlier_rounds_still_owe_and_keeps_what_it_could_not_write(
    trainer: InnerTrainer,
) -> None:
    codec = get_codec("int2")
    training = begin(trainer)
    theta_P = training._theta_P
    feedback, whole = ErrorFeedback(codec, theta_P.size), Fragments.whole(theta_P.size)
    training = InnerTraining(RUN, trainer, SpareTimeEvaluation(trainer), codec, theta_P, whole, feedback)
    carry_P = feedback.carry_P
    carry_P[:] = np.linspace(-1e-3, 1e-3, carry_P.size, dtype=np.float32)
    owed_P = carry_P.copy()
    work, _ = training.train(1, FIRST, None, never, silent)
    feedback.reset()
    feedback.carry_P[:] = 1.0  # of a round after this one
    assert work.source is not None
    out, written_P = Encoded.allocate(codec, theta_P.size), np.empty_like(theta_P)
    work.source(0, theta_P.size, out)
    codec.decode(out, written_P)
    wanted_P = owed_P + (theta_P - trainer.vectors.local_P)
    np.testing.assert_array_equal(carry_P, wanted_P - written_P)
    assert (feedback.carry_P == 1.0).all()


def test_the_share_of_a_member_is_its_weight_in_the_mean_or_as_much_as_others_have_next() -> None:
    (_, signed) = history(2)
    seats = tuple(Seat(peer=peer(i), tokens=tokens, used=()) for i, tokens in enumerate((30, 10, 0)))
    record = signed.record.model_copy(update={"seats": seats})
    assert [share_of(record, peer(i)) for i in range(3)] == [0.75, 0.25, 1 / 3]


def halves(trainer: InnerTrainer) -> Fragments:
    return Fragments.equal(trainer.layout.count, 2, CODEC.block)


def test_a_fragment_that_is_not_averaged_goes_on_from_where_training_left_it(trainer: InnerTrainer) -> None:
    """With commits that bring what we did ourselves, all rounds are one stretch of training, whose every movement is
    given once: by each fragment when it is its turn, with the tokens of all rounds since the last one."""
    begin(trainer, RUN)
    trainer.load_flat(trainer.vectors.theta_P)
    start_P, after_P = trainer.vectors.theta_P.copy(), []
    for round in range(3):
        trainer.train(iter(range(8 * round, 8 * round + 8)), RUN.inner_steps, first_step=round * RUN.inner_steps)
        after_P.append(np.empty_like(start_P))
        trainer.store_flat(after_P[-1])

    fragments = halves(trainer)
    inner, theta_P = begin(trainer, RUN, fragments), trainer.vectors.theta_P
    moved = {1: (start_P, after_P[0]), 2: (start_P, after_P[1]), 3: (after_P[0], after_P[2])}
    for round, (before_P, now_P) in moved.items():
        first, last = fragments.span(round)
        work, _ = inner.train(round, ((8 * round - 8, 8 * round),), None, never, silent)
        assert work.earlier == (0 if round == 1 else work.tokens)
        codes, given_P = Encoded.allocate(CODEC, last - first), np.empty(last - first, np.float32)
        assert work.source is not None
        work.source(0, codes.count, codes)
        CODEC.decode(codes, given_P)
        np.testing.assert_allclose(given_P, (before_P - now_P)[first:last], atol=1e-6)
        theta_P[first:last] = trainer.vectors.local_P[first:last]


def test_a_commit_moves_the_parameters_of_its_fragment_only(trainer: InnerTrainer) -> None:
    fragments = halves(trainer)
    inner = begin(trainer, RUN, fragments)
    inner.train(1, FIRST, None, never, silent)
    local_P = trainer.vectors.local_P.copy()
    trainer.vectors.theta_P += np.float32(0.5)
    begun_P = at_start(trainer, lambda stop: inner.train(2, SECOND, None, stop, silent))
    own = slice(*fragments.span(1))
    local_P[own] = trainer.vectors.theta_P[own]
    np.testing.assert_array_equal(begun_P, local_P)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_steps_ahead_of_a_fragments_commit_are_carried_over(trainer: InnerTrainer, weight: float) -> None:
    fragments = halves(trainer)
    inner = begin(trainer, RUN.model_copy(update={"overlap_weight": weight}), fragments)
    inner.train(1, FIRST, None, never, silent)
    before_P, now_P = trainer.vectors.local_P.copy(), np.empty_like(trainer.vectors.local_P)
    ahead = inner.go_ahead(2, ((8, 14),), never)
    assert ahead is not None
    trainer.store_flat(now_P)
    trainer.vectors.theta_P += np.float32(0.5)
    begun_P = at_start(trainer, lambda stop: inner.train(2, SECOND, ahead, stop, silent))
    own = slice(*fragments.span(1))
    now_P[own] = trainer.vectors.theta_P[own] + np.float32(weight) * (now_P - before_P)[own]
    np.testing.assert_allclose(begun_P, now_P, atol=1e-6)


def test_who_falls_out_of_step_begins_at_the_agreed_parameters_with_nothing_of_before(trainer: InnerTrainer) -> None:
    inner = begin(trainer, RUN, halves(trainer))
    inner.train(1, FIRST, None, never, silent)
    inner.begin_anew()
    trainer.vectors.theta_P += np.float32(0.5)
    theta_P = trainer.vectors.theta_P.copy()
    begun_P = at_start(trainer, lambda stop: inner.train(2, SECOND, None, stop, silent))
    np.testing.assert_array_equal(begun_P, theta_P)
    work, _ = inner.train(3, SECOND, None, never, silent)
    assert work.earlier == 0


def test_an_evaluation_on_the_way_disturbs_no_fragment(trainer: InnerTrainer) -> None:
    """It takes turns with training in the model and in the local vector, which training goes on from."""
    fragments, works = halves(trainer), []
    for evaluates in (False, True):
        evaluation = SpareTimeEvaluation(trainer)
        begin(trainer, RUN, fragments)
        inner = InnerTraining(RUN, trainer, evaluation, CODEC, trainer.vectors.theta_P, fragments)
        for round in (1, 2, 3):
            work, _ = inner.train(round, ((8 * round - 8, 8 * round),), None, never, silent)
            if evaluates and round == 1:
                trainer.load_flat(trainer.vectors.theta_P)
                evaluation.begin(0)
        works.append((trainer.vectors.local_P.copy(), work.earlier))
    assert works[0][1] == works[1][1]
    np.testing.assert_array_equal(works[0][0], works[1][0])


def at_start(trainer: InnerTrainer, train: Callable[[Callable[[], bool]], object]) -> Floats:
    """The parameters at which this training goes on."""
    found_P = np.empty_like(trainer.vectors.local_P)

    def stop() -> bool:
        trainer.store_flat(found_P)
        return True

    train(stop)
    return found_P
