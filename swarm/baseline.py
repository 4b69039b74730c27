"""What the same text would have taught one node alone, or a cluster that averages gradients in every step.

The swarm trades some loss for talking once a round; these two ends show how much. Both use the run's own inner
settings, untuned for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, pairwise

from swarm.config import RunConfig
from swarm.data.open import open_reader
from swarm.initial import cannot_found, fill_first
from swarm.model.sizes import model_config
from swarm.train.build import step_config
from swarm.train.group import LocalGroup
from swarm.train.rank import RankTrainer
from swarm.train.step_config import HELD_OUT_TOKENS, LocalConfig
from swarm.train.trainer import InnerTrainer

Progress = Callable[[str, int, int, float], None]
"""(name of the baseline, step from 0, steps in all, loss of the step)"""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Held-out losses in nats per token.

    alone: one node after as many steps as each node of the swarm took, so after 1/nodes of the tokens;
    alone_all_tokens: the same node going on until it has seen all the tokens, in nodes times the steps;
    data_parallel: synchronous, every step on the mean gradient of all nodes' batches, all the tokens.
    """

    alone: float
    alone_all_tokens: float
    data_parallel: float


class Stopped(Exception):
    """The caller asked to stop; there is no result."""


def run_baseline(
    run: RunConfig,
    *,
    total_tokens: int,
    nodes: int,
    threads: int = 1,
    held_out_tokens: int = HELD_OUT_TOKENS,
    progress: Progress = lambda _name, _step, _steps, _loss: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Baseline:
    """Train both baselines on what a swarm of `nodes` trained on: total_tokens, from the run's own first samples.

    Forms the process's local group, so no node may run in this process. Takes about twice what one node would need for
    all the tokens. Raises Stopped.
    """
    inner = replace(step_config(run), held_out_tokens=held_out_tokens)
    share = max(1, total_tokens // (nodes * inner.batch_size * run.sequence_length))

    def train(name: str, batch_size: int, stations: list[int]) -> list[float]:
        """Train once from theta_0 and evaluate after each number of steps in `stations` (ascending)."""
        sized = replace(inner, batch_size=batch_size)
        rank = RankTrainer(model_config(run.model), sized, open_reader(run), group, LocalConfig(threads))
        trainer = InnerTrainer(rank)
        first_P = trainer.vectors.theta_P
        if not fill_first(run, first_P, partial(trainer.initial, run.seed)):
            raise cannot_found(run)
        trainer.load_flat(first_P)
        samples, losses = count(), []
        for begin, end in pairwise([0, *stations]):
            report = partial(_report, progress, name, begin, stations[-1])
            trainer.train(samples, end - begin, should_stop, report, first_step=begin)
            if should_stop():
                raise Stopped
            losses.append(trainer.evaluate())
        return losses

    with LocalGroup() as group:
        alone, everything = train("alone", inner.batch_size, [share, share * nodes])
        # Equal batches: the mean gradient over nodes is the gradient of one batch as large as all of theirs.
        (together,) = train("data parallel", inner.batch_size * nodes, [share])
    return Baseline(alone, everything, together)


def _report(progress: Progress, name: str, begin: int, steps: int, step: int, loss: float) -> None:
    progress(name, begin + step, steps, loss)
