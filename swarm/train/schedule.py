"""The inner learning rate over the steps of the run: warm-up, stable, decay (WSD).

WSD is MiniCPM's schedule (arXiv:2404.06395); the shape of the decay, 1 - sqrt, is the best one of Haegele et al.
(arXiv:2405.18392) and that of INTELLECT-1 (arXiv:2412.01152).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """peak: learning rate of the stable phase; warmup_steps: of the linear rise to it; total_steps: planned inner steps
    of the run, 0 if it has no end; decay_steps: the last of them, in which the rate falls to 0."""

    peak: float
    warmup_steps: int = 0
    total_steps: int = 0
    decay_steps: int = 0

    def __call__(self, step: int) -> float:
        """Of the run's inner step `step` (from 0).

        The records say which round it is, and a round has the same number of steps everywhere: so all members agree,
        newcomers and resumed runs too. Nothing a node has done by itself goes in.
        """
        rate = self.peak
        if step < self.warmup_steps:
            rate *= (step + 1) / self.warmup_steps
        if self.decay_steps:
            begin = self.total_steps - self.decay_steps
            done = min(1.0, max(0.0, (step - begin) / self.decay_steps))
            rate *= 1.0 - done**0.5
        return rate
