"""The outer step: torch's rule, separate rounding of each product and sum, the same bits for every cut."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.codec import CODECS, Codec, Encoded
from ops.kernels_nesterov import SMALLEST_NORMAL, nesterov
from ops.outer_step import FlushedDenormals, nesterov_step, nesterov_step_encoded

Floats = npt.NDArray[np.float32]
codecs = st.sampled_from(list(CODECS.values()))


def state(count: int, seed: int) -> tuple[Floats, Floats, Floats]:
    random = np.random.default_rng(seed)
    theta_P, momentum_P, mean_P = random.standard_normal((3, count)).astype(np.float32)
    return theta_P, momentum_P, mean_P


def reference(theta_P: Floats, momentum_P: Floats, mean_P: Floats, lr: float, mu: float) -> tuple[Floats, Floats]:
    """Each numpy operation rounds by itself."""
    lr32, mu32 = np.float32(lr), np.float32(mu)
    m_P = mu32 * momentum_P + mean_P
    return theta_P - lr32 * (mean_P + mu32 * m_P), m_P


def fused(theta_P: Floats, momentum_P: Floats, mean_P: Floats, lr: float, mu: float) -> tuple[Floats, Floats]:
    """What FMA contraction would give: each product exact (in fp64), one rounding with the sum."""
    lr64, mu64 = np.float64(np.float32(lr)), np.float64(np.float32(mu))
    m_P = (mu64 * momentum_P + mean_P).astype(np.float32)
    nesterov_P = (mean_P + mu64 * m_P).astype(np.float32)
    return (theta_P - lr64 * nesterov_P).astype(np.float32), m_P


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(0, 2**32 - 1), st.floats(0, 2, width=32), st.floats(0, 1, width=32))
def test_every_product_and_sum_is_rounded_by_itself(count: int, seed: int, lr: float, momentum: float) -> None:
    theta_P, momentum_P, mean_P = state(count, seed)
    expected_P, expected_momentum_P = reference(theta_P, momentum_P, mean_P, lr, momentum)
    nesterov_step(theta_P, momentum_P, mean_P, lr=lr, momentum=momentum)
    assert theta_P.tobytes() == expected_P.tobytes()
    assert momentum_P.tobytes() == expected_momentum_P.tobytes()


def test_these_bits_would_show_a_contraction() -> None:
    theta_P, momentum_P, mean_P = state(3000, 0)
    separate = reference(theta_P, momentum_P, mean_P, 0.7, 0.9)
    contracted = fused(theta_P, momentum_P, mean_P, 0.7, 0.9)
    assert (separate[0] != contracted[0]).mean() > 0.1
    assert (separate[1] != contracted[1]).mean() > 0.1


@settings(deadline=None)
@given(codecs, st.integers(0, 3000), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 3000), max_size=4))
def test_any_cut_and_the_encoded_form_give_the_same_bits(codec: Codec, count: int, seed: int, inner: list[int]) -> None:
    theta_P, momentum_P, mean_P = state(count, seed)
    mean = Encoded.allocate(codec, count)
    codec.quantise(mean_P, mean)
    codec.decode(mean, mean_P)
    whole, cut, coded = ((theta_P.copy(), momentum_P.copy()) for _ in range(3))
    nesterov_step(*whole, mean_P, lr=0.7, momentum=0.9)
    bounds = [0, *sorted(min(bound, count) for bound in inner), count]
    for start, stop in pairwise(bounds):
        nesterov_step(cut[0][start:stop], cut[1][start:stop], mean_P[start:stop], lr=0.7, momentum=0.9)
    middle = count // 2 // codec.block * codec.block
    for start, stop in ((0, middle), (middle, count)):
        piece = mean.slice(start, stop)
        nesterov_step_encoded(coded[0][start:stop], coded[1][start:stop], piece, lr=0.7, momentum=0.9)
    for other in (cut, coded):
        assert other[0].tobytes() == whole[0].tobytes()
        assert other[1].tobytes() == whole[1].tobytes()


def test_the_rule_is_torch_s() -> None:
    theta_P, momentum_P, _ = state(1000, 1)
    momentum_P[:] = 0
    parameter = torch.nn.Parameter(torch.from_numpy(theta_P.copy()))
    optimizer = torch.optim.SGD([parameter], lr=0.7, momentum=0.9, nesterov=True)
    for seed in range(5):
        mean_P = state(1000, seed)[2]
        parameter.grad = torch.from_numpy(mean_P.copy())
        optimizer.step()
        nesterov_step(theta_P, momentum_P, mean_P, lr=0.7, momentum=0.9)
    np.testing.assert_allclose(theta_P, parameter.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_python_gives_the_compiled_bits() -> None:
    states = [state(200, 2) for _ in range(2)]
    for arrays, run in zip(states, (nesterov, nesterov.py_func), strict=True):
        assert run(*arrays, np.float32(0.7), np.float32(0.9), SMALLEST_NORMAL)
        assert not run(*arrays, np.float32(1), np.float32(1), np.float32(0))
    assert states[0][0].tobytes() == states[1][0].tobytes()
    assert states[0][1].tobytes() == states[1][1].tobytes()


def test_denormals_are_kept() -> None:
    theta_P = np.zeros(40, np.float32)
    momentum_P = np.full(40, np.float32(1.5e-38))
    nesterov_step(theta_P, momentum_P, np.zeros(40, np.float32), lr=1.0, momentum=0.5)
    assert 0 < momentum_P.min() < SMALLEST_NORMAL
    assert theta_P.max() < 0


def test_unaligned_vectors() -> None:
    theta_P, momentum_P, mean_P = state(500, 3)
    odd_P = np.empty(2001, np.uint8)[1:].view(np.float32)
    odd_P[:] = theta_P
    odd_momentum_P = momentum_P.copy()
    nesterov_step(odd_P, odd_momentum_P, mean_P, lr=0.7, momentum=0.9)
    nesterov_step(theta_P, momentum_P, mean_P, lr=0.7, momentum=0.9)
    assert odd_P.tobytes() == theta_P.tobytes()


def test_a_thread_that_flushes_denormals_is_refused(codec: Codec) -> None:
    """The mode belongs to the thread, so it is set in one of its own."""
    theta_P, momentum_P, mean_P = state(10, 4)
    before = theta_P.tobytes()
    mean = Encoded.allocate(codec, 10)
    codec.quantise(mean_P, mean)
    refused: list[FlushedDenormals] = []

    def run() -> None:
        if not torch.set_flush_denormal(True):
            refused.extend([FlushedDenormals()] * 2)  # a processor without the mode
            return
        for step in (
            lambda: nesterov_step(theta_P, momentum_P, mean_P, lr=0.7, momentum=0.9),
            lambda: nesterov_step_encoded(theta_P, momentum_P, mean, lr=0.7, momentum=0.9),
        ):
            try:
                step()
            except FlushedDenormals as error:
                refused.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(refused) == 2
    assert theta_P.tobytes() == before


def test_wrong_vectors_are_refused() -> None:
    theta_P, momentum_P, mean_P = state(10, 5)
    for wrong in (theta_P[:9], theta_P.astype(np.float64), np.zeros(20, np.float32)[::2]):
        with pytest.raises(AssertionError):
            nesterov_step(wrong, momentum_P, mean_P, lr=0.7, momentum=0.9)
