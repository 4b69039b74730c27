"""A node's inner training from round to round: where it begins, on which samples, and how far ahead of the commit.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ops.codec import Codec
from ops.encoded import Encoded
from ops.error_feedback import ErrorFeedback
from ops.pseudo_gradient import all_finite
from p2p.protocol import ledger
from p2p.protocol.messages import Record
from p2p.protocol.model import Range
from p2p.reduce.reducer import Source
from swarm.config import RunConfig
from swarm.evaluation import SpareTimeEvaluation
from swarm.train.trainer import InnerTrainer, TrainResult

Floats = NDArray[np.float32]
Ranges = tuple[Range, ...]
OnStep = Callable[[int, float], None]


@dataclass(frozen=True)
class Work:
    """What inner training brought into a round."""

    tokens: int
    used: Ranges
    source: Source | None
    result: TrainResult | None
    ahead: int = 0
    """Of its inner steps, those taken before the round before it was committed."""


NOTHING = Work(0, (), None, None)


@dataclass(frozen=True)
class Ahead:
    """Inner steps of a round that were taken while the one before it was reduced.

    They began where that round's training had ended, which is still in the local vector: see `InnerTraining.train`.
    """

    used: Ranges
    result: TrainResult

    @property
    def steps(self) -> int:
        return self.result.steps + self.result.skipped


class InnerTraining:
    """All methods belong to the trainer's thread."""

    def __init__(
        self,
        run: RunConfig,
        trainer: InnerTrainer,
        evaluation: SpareTimeEvaluation,
        codec: Codec,
        theta_P: Floats,
        feedback: ErrorFeedback | None = None,
    ) -> None:
        """theta_P: the agreed parameters, moved by commits while nothing here reads them. `feedback`: for a codec that
        is used with it."""
        self._run, self._trainer, self._evaluation = run, trainer, evaluation
        self._codec, self._theta_P, self._local_P = codec, theta_P, trainer.vectors.local_P
        self._feedback = feedback

    def train(
        self, round: int, ranges: Ranges, ahead: Ahead | None, should_stop: Callable[[], bool], on_step: OnStep
    ) -> tuple[Work, bool]:
        """The inner steps of `round` that are not yet taken, on these samples; whether the parameters stayed finite.

        Without steps `ahead` they begin at the agreed parameters. With some, we have gone on from where the last
        round's training ended; what we moved from there, times `overlap_weight`, is carried over to the agreed
        parameters. So the pseudo-gradient is, as ever, how far the steps of this round have brought us from those.
        """
        run, trainer = self._run, self._trainer
        self._evaluation.make_way()
        done = 0
        if ahead is None:
            trainer.load_flat(self._theta_P)
        else:
            assert not ledger.subtract(ahead.used, ranges), "trained on samples that are not ours"
            trainer.shift_flat(self._local_P, self._theta_P, run.overlap_weight)
            done, ranges = ahead.steps, ledger.subtract(ranges, ahead.used)
        result = self._steps(round, ranges, done, run.inner_steps - done, should_stop, on_step)
        self._evaluation.come_back()
        used, _ = ledger.take(ranges, result.samples)
        if ahead is not None:
            used, result = ledger.merged((*ahead.used, *used)), self._joined(ahead.result, result)
        finite = all_finite(self._local_P)
        if not finite or not result.steps:
            return NOTHING, finite
        source = self._encode_pseudo_gradient
        if self._feedback is not None:  # that of now: a round that we miss replaces it
            source = partial(self._encode_with_feedback, self._feedback.carry_P)
        return Work(result.tokens, used, source, result, done), True

    def go_ahead(self, round: int, spare: Ranges, should_stop: Callable[[], bool]) -> Ahead | None:
        """Inner steps of `round` while the one before it is reduced, until should_stop() says that it is committed.

        The local vector stays as it is. `spare`: samples that the round before has left us. None: not even one step.
        """
        result = self._steps(round, spare, 0, self._run.overlap_steps, should_stop, lambda _step, _loss: None)
        used, _ = ledger.take(spare, result.samples)
        return Ahead(used, result) if used else None

    def _steps(
        self, round: int, ranges: Ranges, done: int, steps: int, should_stop: Callable[[], bool], on_step: OnStep
    ) -> TrainResult:
        samples = (index for start, stop in ranges for index in range(start, stop))
        first = (round - 1) * self._run.inner_steps + done
        return self._trainer.train(
            samples, steps, should_stop, lambda step, loss: on_step(done + step, loss), first_step=first
        )

    def _joined(self, first: TrainResult, then: TrainResult) -> TrainResult:
        """Of two stretches of one round."""
        parts = [part for part in (first, then) if part.steps]
        steps = sum(part.steps for part in parts)
        tokens, seconds = first.tokens + then.tokens, first.seconds + then.seconds
        return TrainResult(
            loss=sum(part.loss * part.steps for part in parts) / steps if steps else math.nan,
            tokens=tokens,
            samples=first.samples + then.samples,
            steps=steps,
            seconds=seconds,
            data_seconds=first.data_seconds + then.data_seconds,
            skipped=first.skipped + then.skipped,
            mfu=self._trainer.mfu(tokens, seconds),
        )

    def _encode_pseudo_gradient(self, start: int, stop: int, out: Encoded) -> None:
        """theta_global - theta_local of [start, stop), quantised; in kernel threads."""
        self._codec.quantise_difference(self._theta_P[start:stop], self._local_P[start:stop], out)

    def _encode_with_feedback(self, carry_P: Floats, start: int, stop: int, out: Encoded) -> None:
        """The same, and what earlier rounds still owe; once a round for each stretch."""
        own = slice(start, stop)
        self._codec.quantise_with_feedback(self._theta_P[own], self._local_P[own], carry_P[own], out)


def share_of(record: Record, peer: str) -> float:
    """What part of a record's mean is this member's; if it had no weight: of the next one's, if all weigh the same."""
    own = next(seat.tokens for seat in record.seats if seat.peer == peer)
    return own / sum(record.weights) if own else 1 / len(record.next_view)
