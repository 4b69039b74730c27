"""DiLoCo in one process: replicas that train in turn, and what the codec, error feedback and outer step make of it.

Shape suffix: _P values of the flat vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ops.codec import Codec, get_codec
from ops.encoded import Encoded
from ops.error_feedback import ErrorFeedback
from ops.outer_step import nesterov_step_encoded
from swarm.config import RunConfig
from swarm.data.open import open_reader
from swarm.model.sizes import model_config
from swarm.train.build import step_config
from swarm.train.group import LocalGroup
from swarm.train.rank import RankTrainer
from swarm.train.trainer import InnerTrainer

NODES = 4
ALL_HELD_OUT = 1 << 30

Floats = NDArray[np.float32]


class Members:
    """What NODES members of equal weight make of their pseudo-gradients, without a network: `parts`, and their mean."""

    def __init__(self, codec: Codec, count: int) -> None:
        self._codec = codec
        self.parts = [Encoded.allocate(codec, count) for _ in range(NODES)]
        self.last_mean = Encoded.allocate(codec.of_means, count)
        self._feedbacks = [ErrorFeedback(codec, count) for _ in range(NODES)] if codec.feedback else []
        span = -(-count // (NODES * codec.block)) * codec.block
        self._spans = [(start, min(start + span, count)) for start in range(0, count, span)]

    def contribute(self, rank: int, theta_P: Floats, local_P: Floats) -> None:
        if self._feedbacks:
            carry_P = self._feedbacks[rank].carry_P
            self._codec.quantise_with_feedback(theta_P, local_P, carry_P, self.parts[rank])
        else:
            self._codec.quantise_difference(theta_P, local_P, self.parts[rank])

    def mean(self) -> Encoded:
        """Of what all have contributed: each span by its owner, which keeps what it lacks."""
        weights = [1.0] * NODES
        if not self._feedbacks:
            self._codec.mean(self.parts, weights, self.last_mean)
            return self.last_mean
        for owner, (start, stop) in zip(self._feedbacks, self._spans, strict=True):
            pieces = [part.slice(start, stop) for part in self.parts]
            owner.mean(pieces, weights, start, self.last_mean.slice(start, stop))
        for feedback in self._feedbacks:
            feedback.commit(self.last_mean, 1 / NODES)
        return self.last_mean


def diloco(
    run: RunConfig, rounds: int, held_out_tokens: int = ALL_HELD_OUT, watch: Callable[[Members], None] | None = None
) -> float:
    """Held-out loss, in nats per byte, after `rounds` rounds of NODES replicas. `watch` sees each round's codes."""
    inner = replace(step_config(run), held_out_tokens=held_out_tokens)
    with LocalGroup() as group:
        size, reader = model_config(run.model), open_reader(run)
        replicas = [InnerTrainer(RankTrainer(size, inner, reader, group)) for _ in range(NODES)]
        theta_P = replicas[0].initial(run.seed)
        momentum_P, local_P = np.zeros_like(theta_P), np.empty_like(theta_P)
        members = Members(get_codec(run.codec), theta_P.size)
        steps, share = run.inner_steps, run.inner_steps * run.batch_size
        for turn in range(rounds):
            for rank, replica in enumerate(replicas):
                first = (turn * NODES + rank) * share
                replica.load_flat(theta_P)
                replica.train(iter(range(first, first + share)), steps, first_step=turn * steps)
                replica.store_flat(local_P)
                members.contribute(rank, theta_P, local_P)
            nesterov_step_encoded(theta_P, momentum_P, members.mean(), lr=run.outer_lr, momentum=run.outer_momentum)
            if watch is not None:
                watch(members)
        replicas[0].load_flat(theta_P)
        return replicas[0].evaluate()
