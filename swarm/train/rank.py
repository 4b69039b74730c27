"""One rank's part of inner training: its shard of the model, its optimizer and its share of each batch.

All ranks of a group call the same methods in the same order with their own arguments; inside, they meet in collectives.

Shape suffixes: P values of the flat vector, B samples of a batch, L sequence length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ops.layout import FlatLayout
from swarm.data.batch import Batch
from swarm.data.feed import Feed
from swarm.data.reader import Reader
from swarm.model.initial import initial_theta
from swarm.model.sizes import ModelConfig
from swarm.train.clip import clip_gradients
from swarm.train.flat import layout_of, load_flat, shift_flat, store_flat, swap_flat
from swarm.train.group import LocalGroup
from swarm.train.inner_state import load_optimizers, optimizer_vectors, store_optimizers
from swarm.train.loss import summed_loss
from swarm.train.optimizers import build_optimizers
from swarm.train.parallel import as_fsdp, reshard, sharded_model
from swarm.train.step_config import LocalConfig, StepConfig

NOTHING = (0,)
"""What a rank without a sample in a step fetches: see RankTrainer._part."""


class RankTrainer:
    """Not thread-safe; may be used from any one thread at a time, not only the one that made it.

    The optimizer's state persists over rounds: load_flat replaces the parameters and nothing else (DiLoCo,
    arXiv:2311.08105).
    """

    def __init__(
        self,
        model: ModelConfig,
        config: StepConfig,
        reader: Reader,
        group: LocalGroup,
        local: LocalConfig | None = None,
    ) -> None:
        self.model_config, self.config, self.group, self.local = model, config, group, local or LocalConfig()
        self.settle_in_thread()
        self.reader = reader
        self.feed = Feed(reader.batch)
        self.held_out: Batch = reader.held_out(config.held_out_tokens)
        self.model = sharded_model(model, group, config.precision, self.local)
        self.layout: FlatLayout = layout_of(self.model, config.fragments)
        self._parameters = list(self.model.parameters())
        self._optimizers = build_optimizers(self.model, config, group)
        self.steps_taken = 0

    def settle_in_thread(self) -> None:
        """OpenMP's number of threads belongs to the calling thread: the one that trains has to set it."""
        self.group.enter_thread()
        if torch.get_num_threads() != self.local.threads:
            torch.set_num_threads(self.local.threads)

    # --- state ---

    def initial(self, seed: int, out_P: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """theta_0 of a run, the same bits on every founder, in out_P if given. It is not loaded."""
        return initial_theta(self.layout, self.model_config, seed, out_P)

    def load_flat(self, theta_P: NDArray[np.float32]) -> None:
        """Set this rank's rows of the parameters; theta_P is only read."""
        load_flat(self.model, self.layout, self.group, theta_P)

    def store_flat(self, out_P: NDArray[np.float32]) -> None:
        """Copy this rank's rows of the parameters to their places in out_P."""
        store_flat(self.model, self.layout, self.group, out_P)

    def swap_flat(self, other_P: NDArray[np.float32]) -> None:
        """Exchange this rank's rows of the parameters with those in other_P."""
        swap_flat(self.model, self.layout, self.group, other_P)

    def shift_flat(
        self, from_P: NDArray[np.float32], to_P: NDArray[np.float32], weight: float, span: tuple[int, int]
    ) -> None:
        """Set this rank's values in [start, stop) of the vector to to_P + weight x (what they are - from_P)."""
        shift_flat(self.model, self.layout, self.group, from_P, to_P, weight, span)

    def optimizer_vectors(self) -> tuple[str, ...]:
        """What the optimizer keeps for each parameter (AdamW: exp_avg, exp_avg_sq); nothing before its first step."""
        return optimizer_vectors(self._optimizers)

    def store_optimizer(self, vector: Callable[[str], NDArray[np.float32]]) -> None:
        """Copy this rank's rows of each of them into vector(name)."""
        store_optimizers(self._optimizers, self.model, self.layout, self.group, vector)

    def load_optimizer(self, vectors: Mapping[str, NDArray[np.float32]], steps: int) -> None:
        """Go on as if `steps` steps had been taken and had left these."""
        load_optimizers(self._optimizers, self.model, self.layout, self.group, vectors, steps)
        self.steps_taken = steps

    # --- a step ---

    def fetch(
        self,
        indices: Sequence[int],
        ahead: Iterable[Sequence[int]],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Batch | None:
        """This rank's samples for a step; those for the next ones are made while it is taken.

        None if should_stop() comes true while they are waited for. Raises DataError if they cannot be had.
        """
        batch = self.feed.batch(indices or NOTHING, should_stop)
        self.feed.expect(one or NOTHING for one in ahead)
        return batch

    def step(self, batch: Batch, samples: int, of: int, micro_batches: int, at: int) -> float | None:
        """One optimizer step of the group on `of` samples, of which this rank has `samples`, in `batch`.

        `micro_batches`, equal on all ranks: forward and backward passes in which the step is taken; gradients are
        summed over ranks in the last one only. `at`: which inner step of the run this is. Returns the mean loss of the
        whole batch, nats per token, or None if loss or gradient were not finite: then nothing has changed.
        """
        summed = torch.zeros((), device=self.group.device)
        for number in range(micro_batches):
            as_fsdp(self.model).set_requires_gradient_sync(number == micro_batches - 1)
            start, stop = share(0, samples, number, micro_batches)
            nats, minimised = self._part(batch, start, stop)
            torch.autograd.backward(minimised / (of * self.reader.sequence_length))
            summed += nats
        norm = clip_gradients(self._parameters, self.config.grad_clip, self.group)
        value = float(self.group.sum(summed)) / (of * self.reader.sequence_length)
        sane = math.isfinite(value) and math.isfinite(norm)
        if sane:
            self._descend(self.config.schedule(at))
        self.model.zero_grad(set_to_none=True)
        return value if sane else None

    def _descend(self, learning_rate: float) -> None:
        for optimizer in self._optimizers:
            for settings in optimizer.param_groups:
                settings["lr"] = learning_rate
            optimizer.step()
        self.steps_taken += 1

    # --- an evaluation ---

    def evaluate(self, start: int, stop: int) -> float:
        """Loss of the held-out samples [start, stop), in nats, summed; each rank computes its part of them."""
        with torch.no_grad():
            loss, _ = self._part(self.held_out, *share(start, stop, self.group.rank, self.group.world))
        reshard(self.model)
        return float(self.group.sum(loss))

    def _part(self, batch: Batch, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Losses of some samples. Without any we still take part, with one that counts for nothing: the other ranks
        need us in their collectives."""
        if start == stop:
            nats, minimised = self._losses(batch.rows(0, 1))
            return nats * 0.0, minimised * 0.0
        return self._losses(batch.rows(start, stop))

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """`summed_loss` of these samples."""
        device, documents = self.group.device, batch.documents_BL
        inputs_BL, targets_BL = (torch.from_numpy(x_BL).to(device) for x_BL in (batch.inputs_BL, batch.targets_BL))
        head = partial(summed_loss, targets_BL=targets_BL, z_loss=self.config.z_loss, chunk=self.local.loss_chunk)
        documents_BL = None if documents is None else torch.from_numpy(documents).to(device)
        nats, minimised = self.model(inputs_BL, documents_BL, head)
        return nats, minimised


def share(start: int, stop: int, rank: int, world: int) -> tuple[int, int]:
    """The part of [start, stop) that one of `world` takes: consecutive, sizes differ by one at most."""
    count = stop - start
    return start + count * rank // world, start + count * (rank + 1) // world
