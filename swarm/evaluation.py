"""Held-out loss in spare time: computed while a node waits for others, put aside when the next round begins."""

from __future__ import annotations

import math
import threading

from swarm.events import Evaluated
from swarm.train.trainer import InnerTrainer, Progress


class SpareTimeEvaluation:
    """Of the parameters of one round at a time, however many rounds it takes.

    They are in the model while nobody trains. While the node trains they wait in its local vector, which is free
    between a commit and the end of the next training; so an evaluation needs no memory of its own. `pause` and `resume`
    belong to any thread, the rest to the trainer's. After `pause` that is free as soon as it is through the forward
    pass of one small batch.
    """

    def __init__(self, trainer: InnerTrainer) -> None:
        self._trainer = trainer
        self._round: int | None = None
        self._progress = Progress()
        self._paused = threading.Event()

    @property
    def under_way(self) -> bool:
        return self._round is not None

    def begin(self, round: int) -> None:
        """Evaluate the parameters that the model holds now: those after `round`."""
        assert not self.under_way
        self._round, self._progress = round, Progress()

    def make_way(self) -> None:
        """The round is over and training begins: put the evaluated parameters, if any, into the local vector."""
        if self.under_way:
            self._trainer.store_flat(self._trainer.vectors.local_P)

    def come_back(self) -> None:
        """Training is over: put what it made of the parameters into the local vector, and take ours back."""
        if self.under_way:
            self._trainer.swap_flat(self._trainer.vectors.local_P)
        else:
            self._trainer.store_flat(self._trainer.vectors.local_P)

    def pause(self) -> None:
        """The trainer is needed."""
        self._paused.set()

    def resume(self) -> None:
        """It is not: the next `go_on` may take its time."""
        self._paused.clear()

    def go_on(self) -> Evaluated | None:
        """Until it is done, or paused: then None."""
        assert self._round is not None
        loss = self._trainer.evaluate(self._paused.is_set, self._progress)
        if math.isnan(loss) and self._paused.is_set():
            return None
        round, self._round = self._round, None
        return Evaluated(round=round, held_out_loss=loss)
