"""Held-out loss in spare time: computed while a node waits for others, put aside when the next round begins."""

from __future__ import annotations

import math
import threading

from swarm.events import Evaluated
from swarm.train.trainer import InnerTrainer, Progress


class SpareTimeEvaluation:
    """Of the parameters of one round at a time, however many rounds it takes.

    `begin` and `go_on` belong to the trainer's thread, the rest to any. After `pause` the trainer is free as soon as it
    is through the forward pass of one small batch and, the first time, a copy of the parameters.
    """

    def __init__(self, trainer: InnerTrainer) -> None:
        self._trainer = trainer
        self._round: int | None = None
        self._progress = Progress()
        self._kept = False
        """Whether the parameters are in the node's vector for it, and no longer in the model."""
        self._paused = threading.Event()

    @property
    def under_way(self) -> bool:
        return self._round is not None

    def begin(self, round: int) -> None:
        """Evaluate the parameters that the model holds now: those after `round`."""
        assert not self.under_way
        self._round, self._progress, self._kept = round, Progress(), False

    def pause(self) -> None:
        """The trainer is needed."""
        self._paused.set()

    def resume(self) -> None:
        """It is not: the next `go_on` may take its time."""
        self._paused.clear()

    def go_on(self) -> Evaluated | None:
        """Until it is done, or paused: then None."""
        assert self._round is not None
        if self._paused.is_set():
            return None
        if self._kept:
            self._trainer.load_flat(self._trainer.vectors.kept_P)
        loss = self._trainer.evaluate(self._paused.is_set, self._progress)
        if math.isnan(loss) and self._paused.is_set():
            if not self._kept:
                self._trainer.store_flat(self._trainer.vectors.kept_P)
                self._kept = True
            return None
        round, self._round = self._round, None
        return Evaluated(round=round, held_out_loss=loss)
