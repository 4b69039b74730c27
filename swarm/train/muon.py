"""Muon: momentum whose update of a matrix is orthogonalised, for the hidden matrices of a sharded model.

Jordan et al. (kellerjordan.github.io/posts/muon); as the inner optimizer of DiLoCo: MuLoCo (arXiv:2505.23725). Updates
are scaled to AdamW's usual size, so that both share one learning rate and weight decay (arXiv:2502.16982).

torch.optim.Muon computes in bf16 only and knows nothing of shards. Orthogonalising needs the whole matrix; so the ranks
take turns: each gathers one matrix of every `world`, orthogonalises it, and gives the others their rows back. No matrix
is orthogonalised twice, none is kept, and the result does not depend on the number of ranks.

Shape suffixes: R rows and C columns of a matrix, S rows of it on one rank (padded: the most that a rank has).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from swarm.train.flat import local_shard
from swarm.train.group import LocalGroup

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
MOMENTUM = 0.95
ADAMW_RMS = 0.2
"""Root mean square of AdamW's updates, by the learning rate (arXiv:2502.16982, section 2.2)."""


class Muon(Optimizer):
    """For matrices that FSDP2 has sharded by rows over `group`; all ranks step together.

    Keeps `exp_avg`, the running mean of the gradient, 4 bytes a parameter: half of AdamW's state. `dtype` is what it
    orthogonalises in: fp32 gives the same losses whatever the number of ranks, bf16 is fast on a GPU.
    """

    KEEPS = ("exp_avg",)

    def __init__(
        self, matrices: Iterable[Tensor], group: LocalGroup, *, lr: float, weight_decay: float, dtype: torch.dtype
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        assert all(matrix.ndim == 2 for settings in self.param_groups for matrix in settings["params"])
        self._group, self._dtype = group, dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        assert closure is None
        for settings in self.param_groups:
            world, all_matrices = self._group.world, settings["params"]
            for matrices in (all_matrices[start : start + world] for start in range(0, len(all_matrices), world)):
                updates = self._orthogonal(matrices, [self._momentum(matrix) for matrix in matrices])
                for matrix, update_SC in zip(matrices, updates, strict=True):
                    own_SC, lr = local_shard(matrix), settings["lr"]
                    own_SC.mul_(1.0 - lr * settings["weight_decay"])
                    own_SC.add_(update_SC, alpha=-lr * ADAMW_RMS * max(matrix.shape) ** 0.5)

    def _momentum(self, matrix: Tensor) -> Tensor:
        """This rank's rows of Nesterov's look-ahead, fp32."""
        assert matrix.grad is not None
        state, gradient_SC = self.state[matrix], local_shard(matrix.grad)
        if "exp_avg" not in state:
            state["exp_avg"] = torch.zeros_like(matrix)
        mean_SC = local_shard(state["exp_avg"])
        mean_SC.lerp_(gradient_SC, 1.0 - MOMENTUM)
        return gradient_SC.lerp(mean_SC, MOMENTUM)

    def _orthogonal(self, matrices: Sequence[Tensor], shards: list[Tensor]) -> list[Tensor]:
        """Of up to `world` matrices, one for each rank to do: this rank's rows of each, orthogonalised."""
        world, rank = self._group.world, self._group.rank
        if world == 1:
            device = self._group.device  # parameters may be offloaded, arithmetic is not
            return [orthogonalised(shard_RC.to(device), self._dtype).to(shard_RC) for shard_RC in shards]
        most = [-(-matrix.shape[0] // world) for matrix in matrices]
        padded = [_padded(shard_SC, rows) for shard_SC, rows in zip(shards, most, strict=True)]
        mine: list[Tensor] | None = None
        for owner, own_SC in enumerate(padded):
            parts = [torch.empty_like(own_SC) for _ in range(world)] if owner == rank else None
            dist.gather(own_SC, parts, dst=owner)
            mine = parts or mine
        if mine is not None:
            whole_RC = torch.cat(mine)[: matrices[rank].shape[0]].to(self._group.device)
            done_RC = orthogonalised(whole_RC, self._dtype).to(mine[0])
            mine = [part_SC.contiguous() for part_SC in _padded(done_RC, world * most[rank]).chunk(world)]
        for owner, own_SC in enumerate(padded):
            dist.scatter(own_SC, mine if owner == rank else None, src=owner)
        return [own_SC[: len(shard_SC)] for own_SC, shard_SC in zip(padded, shards, strict=True)]


def orthogonalised(matrix_RC: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The matrix with all singular values near 1 (0.7 to 1.2), by Newton-Schulz iteration; in `dtype`, also returned.

    A quintic polynomial of the matrix divided by its Frobenius norm, with Jordan's coefficients: they raise small
    singular values fast instead of converging to 1 exactly.
    """
    a, b, c = COEFFICIENTS
    x = matrix_RC.to(dtype)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def _padded(shard_SC: Tensor, rows: int) -> Tensor:
    """With zero rows up to `rows`; contiguous."""
    missing = rows - len(shard_SC)
    return torch.cat((shard_SC, shard_SC.new_zeros(missing, shard_SC.shape[1]))) if missing else shard_SC.contiguous()
