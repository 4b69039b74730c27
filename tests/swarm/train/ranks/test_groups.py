"""Groups of real processes train as one: whatever their size, the same losses, parameters and optimizer state."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from swarm.checkpoint.inner import InnerState
from tests.swarm.data.prepared import prepared
from tests.swarm.train.groups import RUN, losses_of, training

pytestmark = pytest.mark.timeout(300)
STEPS = 50
SHORT = [7, 8]
"""Samples of one more, short batch: too few for four ranks."""


@dataclass
class Trained:
    losses: list[float]
    short: float
    held_out: float
    local_P: NDArray[np.float32]
    inner: InnerState
    after: list[float]


def trained(world: int, optimizer: str = "adamw") -> Trained:
    run = RUN.model_copy(update={"inner_optimizer": optimizer})
    with training(world, run, loss_chunk=40) as (trainer, _):
        losses = losses_of(trainer, STEPS)
        short = trainer.train(iter(SHORT), 1).loss
        trainer.store_flat(trainer.vectors.local_P)
        held_out, local_P, inner = trainer.evaluate(), trainer.vectors.local_P.copy(), trainer.inner_state()
        return Trained(losses, short, held_out, local_P, inner, losses_of(trainer, 3, first=400))


@pytest.fixture(scope="module")
def alone() -> Trained:
    return trained(1)


@pytest.fixture(scope="module")
def alone_with_muon() -> Trained:
    return trained(1, "muon")


@pytest.mark.parametrize(("optimizer", "world"), [("adamw", 2), ("muon", 2), ("muon", 4)])
def test_a_group_of_any_size_trains_alike(alone: Trained, alone_with_muon: Trained, optimizer: str, world: int) -> None:
    """With max-z-loss, a loss by chunks, and AdamW for some parameters in any case."""
    alone = alone_with_muon if optimizer == "muon" else alone
    group = trained(world, optimizer)
    assert max(abs(a - b) for a, b in zip(group.losses, alone.losses, strict=True)) < 1e-5
    # of few tokens, which average out less of what another order of sums makes: 1.3e-5 on some CPUs
    assert group.short == pytest.approx(alone.short, abs=3e-5)
    assert group.held_out == pytest.approx(alone.held_out, abs=1e-5)
    assert np.abs(group.local_P - alone.local_P).max() < 1e-4
    assert group.inner.steps == alone.inner.steps == STEPS + 1
    for name, moments_P in alone.inner.vectors.items():
        scale = np.abs(moments_P).max()
        assert np.abs(group.inner.vectors[name] - moments_P).max() < 1e-3 * scale, name
    assert not children()


def test_another_number_of_ranks_goes_on_where_one_stopped(alone_with_muon: Trained) -> None:
    alone = alone_with_muon
    with training(2, RUN.model_copy(update={"inner_optimizer": "muon"})) as (trainer, _):
        trainer.vectors.theta_P[:] = alone.local_P
        trainer.load_flat(trainer.vectors.theta_P)
        trainer.load_inner_state(alone.inner)
        assert losses_of(trainer, 3, first=400) == pytest.approx(alone.after, abs=1e-5)


def test_micro_batches_change_nothing_but_rounding(alone: Trained) -> None:
    with training(2, micro_batch_size=1) as (trainer, _):
        assert losses_of(trainer, 10) == pytest.approx(alone.losses[:10], abs=1e-5)


def test_with_broken_parameters_no_rank_takes_a_step() -> None:
    with training(2) as (trainer, _):
        trainer.vectors.theta_P[-1] = np.nan  # a value of the last rank
        trainer.load_flat(trainer.vectors.theta_P)
        result = trainer.train(iter(range(18)), 3)
        assert (result.steps, result.skipped) == (0, 3)
        trainer.initial(RUN.seed, trainer.vectors.theta_P)
        trainer.load_flat(trainer.vectors.theta_P)
        assert trainer.train(iter(range(18)), 3).steps == 3


def test_the_flat_vector_survives_ranks_whose_shares_are_uneven() -> None:
    with training(3) as (trainer, _):
        theta_P, local_P = trainer.vectors.theta_P, trainer.vectors.local_P
        trainer.store_flat(local_P)
        assert local_P.tobytes() == theta_P.tobytes()
        losses_of(trainer, 1)  # from now on torch keeps the shares padded
        theta_P += 1
        trainer.load_flat(theta_P)
        trainer.store_flat(local_P)
        assert local_P.tobytes() == theta_P.tobytes()
        local_P *= 2
        doubled = local_P.tobytes()
        trainer.swap_flat(local_P)
        assert local_P.tobytes() == theta_P.tobytes()
        trainer.swap_flat(local_P)
        assert local_P.tobytes() == doubled
        trainer.shift_flat(theta_P, local_P, 0.5, (0, theta_P.size))
        trainer.store_flat(local_P)
        assert local_P.tobytes() == doubled


def test_the_ranks_hold_no_copy_of_the_flat_vectors() -> None:
    with training(2) as (trainer, others):
        trainer.store_flat(trainer.vectors.local_P)
        rank = others.pids[0]
        maps = Path(f"/proc/{rank}/maps").read_text()
        mapped = [line for line in maps.splitlines() if "memfd:swarm-" in line]
        shared = {"swarm-theta", "swarm-local", "swarm-pulse"}
        assert {line.split(":")[-1].split()[0] for line in mapped} == shared
        assert "/dev/shm" not in maps, "what has a name may stay behind"
        with pytest.raises(AssertionError, match="not one of the node's flat vectors"):
            trainer.store_flat(np.empty_like(trainer.vectors.local_P))


def test_each_rank_reads_its_own_share_of_prepared_data(tmp_path: Path) -> None:
    """Packed documents of a mix, in micro-batches: some samples have a mask and others none."""
    prepared(tmp_path / "mine")
    run, losses = RUN.model_copy(update={"data": "mine:3, embedded:1"}), []
    for world in (1, 2):
        with training(world, run, data_dir=str(tmp_path), micro_batch_size=2) as (trainer, _):
            losses.append(losses_of(trainer, 6))
    np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=1e-5)


def children() -> list[str]:
    """Ranks that this process has started and not seen the end of."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            command = (status.parent / "cmdline").read_bytes()
            if int(fields[1]) == os.getpid() and b"swarm.train.ranks" in command:
                found.append(status.parent.name)
    return found
