"""AdamW on shards: torch's own bits, and a state that a checkpoint can keep."""

from __future__ import annotations

import torch

from swarm.train.adamw import ShardedAdamW
from swarm.train.optimizers import keeps


def test_it_takes_the_steps_of_torchs_adamw_to_the_bit() -> None:
    start = torch.linspace(-1, 1, 30).view(5, 6)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    settings = {"lr": 1e-2, "betas": (0.9, 0.95), "weight_decay": 0.1}
    own = ShardedAdamW([ours], **settings)  # type: ignore[arg-type]
    reference = torch.optim.AdamW([theirs], fused=True, **settings)  # type: ignore[arg-type]
    for number in range(5):
        for parameter, optimizer in ((ours, own), (theirs, reference)):
            parameter.grad = torch.sin(start * (number + 1))
            optimizer.step()
    assert torch.equal(ours, theirs)
    for name in keeps(own):
        assert torch.equal(own.state[ours][name], reference.state[theirs][name])


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = ShardedAdamW([parameter], lr=1.0, betas=(0.9, 0.95), weight_decay=0.1)
    optimizer.step()
    assert torch.equal(parameter, torch.ones(3))
    assert not optimizer.state
