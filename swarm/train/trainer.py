"""Inner training as the node sees it: what it does alone between two rounds, on however many local ranks.

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ops.layout import FlatLayout
from swarm.checkpoint.inner import InnerState
from swarm.data.batch import Batch
from swarm.data.feed import Indices, looking_ahead
from swarm.train.mfu import flops_per_token, peak_flops
from swarm.train.rank import RankTrainer, share
from swarm.train.ranks.messages import (
    Evaluate,
    Load,
    LoadOptimizer,
    Shift,
    Step,
    Store,
    StoreOptimizer,
    Swap,
    ranges_of,
)
from swarm.train.ranks.others import OtherRanks
from swarm.train.ranks.shared import FlatVectors

_EVALUATION_TOKENS = 2048
"""Of one forward pass on one rank."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What came of some inner steps.

    loss: mean over the steps taken, nats per token, NaN if none was; tokens: trained on; samples: trained on, the first
    ones of the iterator, those of skipped steps too; steps: optimizer steps taken; data_seconds: of `seconds`, spent
    waiting for data; skipped: steps left out because their loss or gradient was not finite; mfu: share of the peak
    arithmetic of all ranks' devices that the steps needed, None where no peak is known.
    """

    loss: float
    tokens: int
    samples: int
    steps: int
    seconds: float
    data_seconds: float
    skipped: int
    mfu: float | None = None


@dataclass(slots=True)
class Progress:
    """How far an evaluation has got: held-out samples, and their loss summed over tokens."""

    samples: int = 0
    nats: float = 0.0


def _ignore(_step: int, _loss: float) -> None:
    """For callers that want no progress."""


class InnerTrainer:
    """Drives all ranks of the local group, of which `own` is rank 0 in this process.

    Not thread-safe, like a rank. With other ranks only the node's own flat vectors can be loaded and stored, because
    each rank reads and writes its part of them by itself. Every method raises RankLost if one of those ranks is gone.
    """

    def __init__(self, own: RankTrainer, others: OtherRanks | None = None, vectors: FlatVectors | None = None) -> None:
        self.own, self._others = own, others or OtherRanks()
        self.vectors = vectors or FlatVectors.private(own.layout.count)

    @property
    def layout(self) -> FlatLayout:
        return self.own.layout

    def close(self) -> None:
        """Take the group apart, in any thread; the other ranks are not told."""
        self.own.feed.close()
        self.own.group.close()

    # --- state ---

    def initial(self, seed: int, out_P: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """theta_0 of a run, the same bits on every founder, in out_P if given. It is not loaded."""
        return self.own.initial(seed, out_P)

    def load_flat(self, theta_P: NDArray[np.float32]) -> None:
        """Set the parameters; theta_P is only read."""
        with self._others.doing(lambda _rank: Load(vector=self.vectors.index(theta_P))):
            self.own.load_flat(theta_P)

    def store_flat(self, out_P: NDArray[np.float32]) -> None:
        """Copy the parameters into out_P."""
        with self._others.doing(lambda _rank: Store(vector=self.vectors.index(out_P))):
            self.own.store_flat(out_P)

    def swap_flat(self, other_P: NDArray[np.float32]) -> None:
        """Exchange the parameters with what is in other_P."""
        with self._others.doing(lambda _rank: Swap(vector=self.vectors.index(other_P))):
            self.own.swap_flat(other_P)

    def shift_flat(
        self, from_P: NDArray[np.float32], to_P: NDArray[np.float32], weight: float, span: tuple[int, int]
    ) -> None:
        """Set the parameters in [start, stop) of the vector to to_P + weight x (what they are - from_P); from_P and
        to_P are only read."""
        index = self.vectors.index
        with self._others.doing(
            lambda _rank: Shift(from_vector=index(from_P), to_vector=index(to_P), weight=weight, span=span),
        ):
            self.own.shift_flat(from_P, to_P, weight, span)

    def inner_state(self) -> InnerState:
        """A copy of what the optimizer keeps (AdamW: its moments) and its counter, for a checkpoint."""
        names = self.own.optimizer_vectors()
        with self._others.lent(names, self.layout.count) as lent:
            with self._others.doing(lambda _rank: StoreOptimizer(names=names), lent.descriptors):
                self.own.store_optimizer(lent.vectors.__getitem__)
            return InnerState(lent.vectors, self.own.steps_taken)

    def load_inner_state(self, state: InnerState) -> None:
        """Go on from these moments, also if they come from a group of another size."""
        names = tuple(state.vectors)
        with self._others.lent(names, self.layout.count, state.vectors) as lent:
            command = LoadOptimizer(names=names, steps=state.steps)
            with self._others.doing(lambda _rank: command, lent.descriptors):
                self.own.load_optimizer(state.vectors, state.steps)

    # --- training ---

    def train(
        self,
        samples: Iterator[int],
        steps: int,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int, float], None] = _ignore,
        *,
        first_step: int = 0,
    ) -> TrainResult:
        """Take up to `steps` optimizer steps on the samples with these global indices; `first_step` is the run's number
        of the first one, on which the learning rate depends.

        Ends early when should_stop() says so (asked before each step, and while its data is waited for) or the samples
        run out; the last batch may be short. on_step(step, loss) follows each step that was taken. Samples may be drawn
        before their step and then not be trained on: the result says how many were. Raises DataError.
        """
        self.own.settle_in_thread()
        began, waited = time.perf_counter(), self.own.feed.waited_seconds
        losses: list[float] = []
        tokens = trained = skipped = 0
        for step, (indices, ahead) in enumerate(looking_ahead(samples, self.own.config.batch_size, steps)):
            if should_stop() or (batch := self._fetch(indices, ahead, should_stop)) is None:
                break
            trained += len(indices)
            loss = self._step(batch, indices, ahead, first_step + step)
            if loss is None:
                skipped += 1
                continue
            tokens += len(indices) * self.own.reader.sequence_length
            losses.append(loss)
            on_step(step, loss)
        mean = sum(losses) / len(losses) if losses else math.nan
        seconds, waited = time.perf_counter() - began, self.own.feed.waited_seconds - waited
        return TrainResult(mean, tokens, trained, len(losses), seconds, waited, skipped, self.mfu(tokens, seconds))

    def mfu(self, tokens: int, seconds: float) -> float | None:
        """Model FLOPs utilisation of the whole group; None if the devices' peak is not known."""
        own = self.own
        peak = peak_flops(own.group.device, own.local.peak_tflops)
        if peak is None or not seconds:
            return None
        flops = flops_per_token(own.model_config, self.layout.count, own.reader.sequence_length)
        return tokens * flops / (seconds * peak * self._others.world)

    def _fetch(self, indices: Indices, ahead: Sequence[Indices], should_stop: Callable[[], bool]) -> Batch | None:
        """Rank 0's share, before any rank is told to take the step: a wait for it can be stopped."""
        return self.own.fetch(self._share(indices, 0), [self._share(one, 0) for one in ahead], should_stop)

    def _step(self, own: Batch, indices: Indices, ahead: Sequence[Indices], at: int) -> float | None:
        """One step of the whole group on the whole batch: each rank gets its share, in equally many micro-batches."""
        world, of = self._others.world, len(indices)
        most = -(-of // world)
        micro_batches = -(-most // (self.own.local.micro_batch_size or most))

        def command(rank: int) -> Step:
            coming = tuple(ranges_of(self._share(one, rank)) for one in ahead)
            samples = ranges_of(self._share(indices, rank))
            return Step(samples=samples, ahead=coming, of=of, micro_batches=micro_batches, at=at)

        with self._others.doing(command):
            return self.own.step(own, len(self._share(indices, 0)), of, micro_batches, at)

    def _share(self, indices: Indices, rank: int) -> Indices:
        first, last = share(0, len(indices), rank, self._others.world)
        return indices[first:last]

    def evaluate(self, should_stop: Callable[[], bool] = lambda: False, progress: Progress | None = None) -> float:
        """Held-out loss in nats per token (bytes), over a fixed set of samples.

        NaN if it was stopped on the way; `progress` then says how far it got, and another call goes on from there.
        """
        self.own.settle_in_thread()
        progress = progress or Progress()
        held_out, length = self.own.held_out, self.own.reader.sequence_length
        size = max(1, _EVALUATION_TOKENS // length) * self._others.world
        while progress.samples < len(held_out):
            if should_stop():
                return math.nan
            part = Evaluate(start=progress.samples, stop=min(progress.samples + size, len(held_out)))
            with self._others.doing(lambda _rank, part=part: part):  # type: ignore[misc]
                progress.nats += self.own.evaluate(part.start, part.stop)
            progress.samples = part.stop
        return progress.nats / held_out.tokens
