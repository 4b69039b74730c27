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
from p2p.protocol.fragments import Fragments
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
    earlier: int = 0
    """Tokens of earlier rounds whose work is in the source, too."""


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
    """All methods belong to the trainer's thread.

    Where each round averages one fragment of the vector, the others stay what our own training has made of them until
    it is their turn; what we have to give then is all that we have moved them since the last one. Whenever we fall out
    of step, we begin anew: at the agreed parameters, all of them, with nothing to give of what was before.
    """

    def __init__(
        self,
        run: RunConfig,
        trainer: InnerTrainer,
        evaluation: SpareTimeEvaluation,
        codec: Codec,
        theta_P: Floats,
        fragments: Fragments,
        feedback: ErrorFeedback | None = None,
    ) -> None:
        """theta_P: the agreed parameters, moved by commits while nothing here reads them. `fragments`: what each round
        averages. `feedback`: for a codec that is used with it."""
        self._run, self._trainer, self._evaluation = run, trainer, evaluation
        self._codec, self._theta_P, self._local_P = codec, theta_P, trainer.vectors.local_P
        self._feedback, self._fragments = feedback, fragments
        self._trained: int | None = None
        """The last round in which we trained, and of which the local vector is; None: we begin anew."""
        self._tokens = [0] * len(fragments)
        """Trained on since each fragment was averaged, or since we began anew."""

    def begin_anew(self) -> None:
        """A round was committed without us, or the agreed parameters are other ones."""
        self._trained = None

    def train(
        self, round: int, ranges: Ranges, ahead: Ahead | None, should_stop: Callable[[], bool], on_step: OnStep
    ) -> tuple[Work, bool]:
        """The inner steps of `round` that are not yet taken, on these samples; whether the parameters stayed finite.

        Without steps `ahead` the parameters that the last rounds averaged begin at the agreed ones. With some, we have
        gone on from where the last round's training ended; what we moved them from there, times `overlap_weight`, is
        carried over. So our pseudo-gradient is, as ever, how far the steps since their last turn have brought us from
        the agreed parameters.
        """
        self._set_out(round, ahead)
        done = 0
        if ahead is not None:
            assert not ledger.subtract(ahead.used, ranges), "trained on samples that are not ours"
            done, ranges = ahead.steps, ledger.subtract(ranges, ahead.used)
        result = self._steps(round, ranges, done, self._run.inner_steps - done, should_stop, on_step)
        self._evaluation.come_back()
        used, _ = ledger.take(ranges, result.samples)
        if ahead is not None:
            used, result = ledger.merged((*ahead.used, *used)), self._joined(ahead.result, result)
        if not all_finite(self._local_P):
            self.begin_anew()
            return NOTHING, False
        self._trained = round
        return self._work(round, used if result.steps else (), result if result.steps else None, done), True

    def _set_out(self, round: int, ahead: Ahead | None) -> None:
        """Bring the model to the parameters at which this round's training begins, or goes on."""
        trainer, goes_on = self._trainer, self._trained is not None
        averaged = {self._fragments.of_round(last) for last in range(self._trained or 0, round)} if goes_on else set()
        spans = [self._fragments.span(fragment) for fragment in sorted(averaged)]
        self._tokens = [tokens * (goes_on and index not in averaged) for index, tokens in enumerate(self._tokens)]
        if ahead is not None:
            assert goes_on
            for span in spans:
                trainer.shift_flat(self._local_P, self._theta_P, self._run.overlap_weight, span)
        elif len(averaged) < len(self._fragments) and goes_on:
            for start, stop in spans:
                np.copyto(self._local_P[start:stop], self._theta_P[start:stop])
            if self._evaluation.under_way:
                trainer.swap_flat(self._local_P)
            else:
                trainer.load_flat(self._local_P)
        else:
            self._evaluation.make_way()
            trainer.load_flat(self._theta_P)

    def _work(self, round: int, used: Ranges, result: TrainResult | None, done: int) -> Work:
        """`result`: of this round's steps, None if there were none."""
        tokens = result.tokens if result is not None else 0
        self._tokens = [before + tokens for before in self._tokens]
        weight = self._tokens[self._fragments.of_round(round)]
        if not weight:
            return NOTHING
        begin, _ = self._fragments.span(round)
        source = partial(self._encode_pseudo_gradient, begin)
        if self._feedback is not None:  # that of now: a round that we miss replaces it
            source = partial(self._encode_with_feedback, self._feedback.carry_P, begin)
        return Work(tokens, used, source, result, done, weight - tokens)

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

    def _encode_pseudo_gradient(self, begin: int, start: int, stop: int, out: Encoded) -> None:
        """theta_global - theta_local of [start, stop), counted from `begin`, quantised; in kernel threads."""
        own = slice(begin + start, begin + stop)
        self._codec.quantise_difference(self._theta_P[own], self._local_P[own], out)

    def _encode_with_feedback(self, carry_P: Floats, begin: int, start: int, stop: int, out: Encoded) -> None:
        """The same, and what earlier rounds still owe; once a round for each stretch."""
        own = slice(begin + start, begin + stop)
        self._codec.quantise_with_feedback(self._theta_P[own], self._local_P[own], carry_P[own], out)


def share_of(record: Record, peer: str) -> float:
    """What part of a record's mean is this member's; if it had no weight: of the next one's, if all weigh the same."""
    own = next(seat.weight for seat in record.seats if seat.peer == peer)
    return own / sum(record.weights) if own else 1 / len(record.next_view)
