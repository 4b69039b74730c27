"""How a model is spread over the ranks of a local group (FSDP2); the model itself knows nothing of it."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

from swarm.model.llama import Llama
from swarm.model.sizes import ModelConfig
from swarm.train.group import LocalGroup
from swarm.train.step_config import LocalConfig, Precision


def sharded_model(
    config: ModelConfig, group: LocalGroup, precision: Precision = "fp32", local: LocalConfig | None = None
) -> Llama:
    """A Llama of that size, sharded layer by layer, its parameters allocated but not set (see load_flat).

    Outside of a layer's turn each rank holds its own rows only (ZeRO-3). Parameters and the sum of gradients over ranks
    are fp32; with bf16 the gathered parameters, activations and gradients of one rank are bf16. Gradients are added
    over ranks, not averaged: divide the loss by the size of the whole batch.
    """
    local = local or LocalConfig()
    with torch.device("meta"):
        model = Llama(config)
    mixed = _mixed_precision(precision)
    offload = CPUOffloadPolicy(pin_memory=group.device.type == "cuda") if local.cpu_offload else OffloadPolicy()
    for index, layer in enumerate(model.layers):
        _adapt_forward(layer, local, index)
        fully_shard(layer, mesh=group.mesh, reshard_after_forward=True, mp_policy=mixed, offload_policy=offload)
    fully_shard(model, mesh=group.mesh, mp_policy=mixed, offload_policy=offload)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    model.to_empty(device="cpu" if local.cpu_offload else group.device)
    return model


def _mixed_precision(precision: Precision) -> MixedPrecisionPolicy:
    if precision == "fp32":
        return MixedPrecisionPolicy()
    # inputs are not cast: it would round the tables of rotary positions, which the model keeps in fp32
    return MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)


def _adapt_forward(layer: nn.Module, local: LocalConfig, index: int) -> None:
    """Compile a layer's forward, recompute its activations in the backward pass: as the node wants it.

    Both replace `forward` alone: FSDP's hooks stay outside, and the names of the parameters stay as they are.
    """
    if local.compile:
        layer.forward = torch.compile(layer.forward)
    if local.activation_checkpointing and index % local.activation_checkpointing == 0:
        # nothing is drawn at random in a layer, so no generator's state has to be kept
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)


def as_fsdp(model: Llama) -> FSDPModule:
    """The same model: fully_shard has given it a second class."""
    assert isinstance(model, FSDPModule)
    return model


def reshard(model: Llama) -> None:
    """Give back what a forward without a backward left gathered, and would go stale."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
