"""Inner training: what a node does alone between two rounds.

Shape suffixes: P values of the flat vector, B samples of a batch, L sequence length.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.tensor import DTensor

from ops.layout import FlatLayout
from swarm.checkpoint.inner import InnerState
from swarm.data.batch import Batch
from swarm.data.reader import Reader
from swarm.model.initial import initial_theta
from swarm.model.sizes import ModelConfig
from swarm.train.group import LocalGroup, layout_of, load_flat, store_flat
from swarm.train.inner_state import load_optimizer, store_optimizer
from swarm.train.schedule import warmed_up

HELD_OUT_TOKENS = 16_384
"""What a node evaluates on, unless told otherwise: a second of work for the demo model."""


@dataclass(frozen=True, slots=True)
class InnerConfig:
    """How a node trains between rounds; the same for every node of a run."""

    batch_size: int = 4
    learning_rate: float = 2e-3
    warmup_steps: int = 20
    weight_decay: float = 0.1
    grad_clip: float = 1.0  # 0: no limit
    betas: tuple[float, float] = (0.9, 0.95)
    held_out_tokens: int = HELD_OUT_TOKENS


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What came of some inner steps.

    loss: mean over the steps taken, nats per token, NaN if none was; tokens: trained on; samples: drawn from the
    iterator, those of skipped steps too; steps: optimizer steps taken; skipped: steps left out because their loss or
    gradient was not finite.
    """

    loss: float
    tokens: int
    samples: int
    steps: int
    seconds: float
    skipped: int


_EVALUATION_BATCH_TOKENS = 2048


def _ignore(_step: int, _loss: float) -> None:
    """For callers that want no progress."""


class InnerTrainer:
    """One node's model, its AdamW and its data, as one FSDP2 group.

    Not thread-safe; may be used from any one thread at a time, not only the one that made it. AdamW's moments persist
    over rounds: load_flat replaces the parameters and nothing else (DiLoCo, arXiv:2311.08105).
    """

    def __init__(
        self,
        model: ModelConfig,
        inner: InnerConfig,
        reader: Reader,
        group: LocalGroup,
        *,
        threads: int = 1,
    ) -> None:
        self.config, self.inner, self.group, self.threads = model, inner, group, threads
        self._settle_in_thread()
        self.reader = reader
        self._held_out = reader.held_out(inner.held_out_tokens)
        self.model = group.sharded_model(model)
        self.layout: FlatLayout = layout_of(self.model)
        self._parameters = list(self.model.parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=inner.learning_rate, betas=inner.betas, weight_decay=inner.weight_decay, fused=True
        )
        self.steps_taken = 0

    def initial(self, seed: int) -> NDArray[np.float32]:
        """theta_0 of a run, the same bits on every founder. It is not loaded."""
        return initial_theta(self.layout, self.config, seed)

    def load_flat(self, theta_P: NDArray[np.float32]) -> None:
        """Set the parameters; theta_P is only read."""
        load_flat(self.model, self.layout, self.group, theta_P)

    def store_flat(self, out_P: NDArray[np.float32]) -> None:
        """Copy the parameters into out_P."""
        store_flat(self.model, self.layout, self.group, out_P)

    def inner_state(self) -> InnerState:
        """A copy of AdamW's moments and its counter, for a checkpoint."""
        vectors: dict[str, NDArray[np.float32]] = {}

        def vector(name: str) -> NDArray[np.float32]:
            return vectors.setdefault(name, np.empty(self.layout.count, np.float32))

        store_optimizer(self._optimizer, self.model, self.layout, self.group, vector)
        return InnerState(vectors, self.steps_taken)

    def load_inner_state(self, state: InnerState) -> None:
        """Go on from these moments, also if they come from a group of another size."""
        load_optimizer(self._optimizer, self.model, self.layout, self.group, state.vectors, state.steps)
        self.steps_taken = state.steps

    def train(
        self,
        samples: Iterator[int],
        steps: int,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int, float], None] = _ignore,
    ) -> TrainResult:
        """Take up to `steps` AdamW steps on the samples with these global indices.

        Ends early when should_stop() says so (asked before each step, before its samples are drawn) or the samples run
        out; the last batch may be short. on_step(step, loss) follows each step that was taken.
        """
        self._settle_in_thread()
        began = time.perf_counter()
        losses: list[float] = []
        tokens = drawn = skipped = 0
        for step in range(steps):
            if should_stop():
                break
            indices = list(islice(samples, self.inner.batch_size))
            if not indices:
                break
            batch = self.reader.batch(indices)
            drawn += len(batch)
            loss = self._step(batch)
            if loss is None:
                skipped += 1
                continue
            tokens += batch.tokens
            losses.append(loss)
            on_step(step, loss)
        mean = sum(losses) / len(losses) if losses else math.nan
        seconds = time.perf_counter() - began
        return TrainResult(mean, tokens, drawn, len(losses), seconds, skipped)

    def evaluate(self, should_stop: Callable[[], bool] = lambda: False) -> float:
        """Held-out loss in nats per token (bytes), over a fixed set of samples; NaN if it was stopped on the way."""
        self._settle_in_thread()
        samples, total = len(self._held_out), 0.0
        with torch.no_grad():
            size = max(1, _EVALUATION_BATCH_TOKENS // self.reader.sequence_length)
            for start in range(0, samples, size):
                if should_stop():
                    total = math.nan
                    break
                batch = self._held_out.rows(start, start + size)
                total += float(self._loss(batch)) * len(batch)
        for module in (*self.model.layers, self.model):
            module.reshard()  # a forward without a backward leaves the root gathered, and its copy would go stale
        return total / samples

    def _step(self, batch: Batch) -> float | None:
        """One optimizer step and its loss, or None if loss or gradient were not finite: then nothing has changed."""
        loss = self._loss(batch)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.inner.grad_clip or math.inf)
        assert isinstance(norm, DTensor)  # the norm over all ranks, not yet summed
        value = float(loss.detach())
        sane = math.isfinite(value) and math.isfinite(float(norm.full_tensor()))
        if sane:
            for settings in self._optimizer.param_groups:
                settings["lr"] = warmed_up(self.steps_taken, self.inner.warmup_steps, self.inner.learning_rate)
            self._optimizer.step()
            self.steps_taken += 1
        self._optimizer.zero_grad(set_to_none=True)
        return value if sane else None

    def _loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy in fp32, whatever the model computes in."""
        device, documents = self.group.device, batch.documents_BL
        inputs = torch.from_numpy(batch.inputs_BL).to(device)
        targets = torch.from_numpy(batch.targets_BL).to(device)
        logits = self.model(inputs, None if documents is None else torch.from_numpy(documents).to(device))
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def _settle_in_thread(self) -> None:
        """OpenMP's number of threads belongs to the calling thread: the one that trains has to set it."""
        self.group.enter_thread()
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
