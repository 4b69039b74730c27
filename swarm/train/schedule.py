"""The inner learning rate over a node's own steps."""

from __future__ import annotations


def warmed_up(step: int, warmup_steps: int, learning_rate: float) -> float:
    """Linear from learning_rate / warmup_steps at step 0 to learning_rate, then constant: a run has no known end.

    Steps are the node's own, not the run's: a newcomer's AdamW starts with empty moments and needs the warm-up as much
    as a founder's.
    """
    if step >= warmup_steps:
        return learning_rate
    return learning_rate * (step + 1) / warmup_steps
