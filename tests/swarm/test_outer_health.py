"""The outer loop's health: cosines, the codec's error and the gain of momentum, from a sample of the vector."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.codec import CODECS, get_codec
from ops.encoded import Encoded
from ops.jit import Floats
from ops.outer_step import nesterov_step
from p2p.protocol.fragments import Fragments
from swarm.outer_health import NOT_KNOWN, STRETCH, STRETCHES, OuterHealth, codec_error, cosine, outer_gain, stretches

COUNT = 5000
FP32, INT8 = get_codec("fp32"), get_codec("int8")


def gaussian(seed: int, count: int = COUNT) -> Floats:
    return np.random.default_rng(seed).standard_normal(count, np.float32)


def encoded(x_P: Floats) -> Encoded:
    mean = Encoded.allocate(FP32, x_P.size)
    FP32.quantise(x_P, mean)
    return mean


def health() -> OuterHealth:
    return OuterHealth(FP32, Fragments.whole(COUNT), 0.7, 0.9)


@given(st.integers(1, 3 * STRETCH * STRETCHES))
def test_the_sample_is_bounded_and_made_of_whole_blocks_in_the_vector(count: int) -> None:
    found = stretches(count)
    assert sum(stop - start for start, stop in found) == min(count, STRETCH * STRETCHES)
    assert all(0 <= start < stop <= count for start, stop in found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    assert all(start % codec.block == 0 for start, _ in found for codec in CODECS.values())


def test_the_sample_reaches_to_the_end_of_a_large_vector() -> None:
    count = 10_000_000_000
    found = stretches(count)
    assert len(found) == STRETCHES
    assert found[0][0] == 0
    assert found[-1][1] > count * (1 - 2 / STRETCHES)


def test_cosines_of_equal_opposite_and_unrelated_vectors() -> None:
    x_S = gaussian(1)
    assert cosine(x_S, 3 * x_S) == pytest.approx(1.0, abs=1e-7)
    assert cosine(x_S, -x_S) == pytest.approx(-1.0, abs=1e-7)
    assert cosine(x_S, gaussian(2)) == pytest.approx(0.0, abs=0.05)
    assert cosine(x_S, np.zeros_like(x_S)) is None


def test_the_error_of_codecs_on_gaussians() -> None:
    x_S = gaussian(3, 1 << 18)
    assert codec_error(FP32, x_S) == 0.0
    int8, int4, int2 = (codec_error(get_codec(name), x_S) for name in ("int8", "int4", "int2"))
    assert int8 is not None
    assert int4 is not None
    assert int2 is not None
    assert int8 == pytest.approx(0.008, rel=0.1), "absmax of 1024 is 3.4: a step of 3.4 / 127, divided by sqrt(12)"
    assert int8 < int4 < int2 < 1
    assert codec_error(INT8, np.zeros(10, np.float32)) is None


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9])
@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9])
def test_the_gain_is_that_of_simulated_nesterov_steps(rho: float, momentum: float) -> None:
    """Means of equal norm whose cosine k rounds apart is rho^k."""
    count, rounds, warm = 20_000, 160, 80
    lr, theta_P, momentum_P, mean_P = 0.7, np.zeros(count, np.float32), np.zeros(count, np.float32), gaussian(0, count)
    gains = []
    for round in range(1, rounds):
        mean_P = np.float32(rho) * mean_P + np.float32((1 - rho**2) ** 0.5) * gaussian(round, count)
        before_P = theta_P.copy()
        nesterov_step(theta_P, momentum_P, mean_P, lr=lr, momentum=momentum)
        gains.append(float(np.dot(before_P - theta_P, mean_P) / np.dot(mean_P, mean_P)))
    assert outer_gain(lr, momentum, rho) == pytest.approx(float(np.mean(gains[warm:])), rel=0.02)


def test_the_gain_of_means_that_stay_is_that_of_plain_momentum() -> None:
    assert outer_gain(0.7, 0.9, 1.0) == pytest.approx(7.0)
    assert outer_gain(0.7, 0.0, 0.3) == pytest.approx(0.7)


def test_a_round_is_compared_with_the_one_before_it() -> None:
    node, mean = health(), encoded(gaussian(1))
    assert node.committed(1, mean) == NOT_KNOWN, "the first of this node, which did not train"
    second = node.committed(2, mean)
    assert second["mean_cosine"] == pytest.approx(1.0)
    assert second["outer_gain"] == pytest.approx(7.0)
    assert node.committed(4, mean)["mean_cosine"] is None, "it missed the third"
    assert node.committed(5, encoded(-gaussian(1)))["mean_cosine"] == pytest.approx(-1.0)
    assert node.committed(6, None) == NOT_KNOWN, "nobody had weight"
    assert node.committed(7, mean)["mean_cosine"] is None


def test_the_own_contribution_is_compared_with_the_mean_of_its_round_only() -> None:
    node, theta_P, own_P = health(), gaussian(1), gaussian(2)
    node.contribute(1, theta_P, theta_P - own_P, None)
    first = node.committed(1, encoded(own_P + gaussian(3)))
    assert first["agreement"] == pytest.approx(2**-0.5, abs=0.03), "half of the mean, and the other half unrelated"
    assert first["codec_error"] == 0.0
    assert node.committed(2, encoded(own_P))["agreement"] is None, "it did not train in the second"
    node.contribute(1, theta_P, theta_P - own_P, None)
    node.missed()
    assert node.committed(4, encoded(own_P)) == NOT_KNOWN


def test_what_earlier_rounds_owe_is_written_too_but_is_not_what_was_learned() -> None:
    codec = get_codec("int2")
    node, theta_P, own_P = OuterHealth(codec, Fragments.whole(COUNT), 0.7, 0.9), gaussian(1), gaussian(2)
    carry_P = -np.float32(0.5) * own_P
    node.contribute(1, theta_P, theta_P - own_P, carry_P)
    mean = Encoded.allocate(codec.of_means, COUNT)
    mean.codec.quantise(own_P, mean)
    found = node.committed(1, mean)
    assert found["agreement"] is not None
    assert found["agreement"] > 0.8
    assert found["codec_error"] == pytest.approx(codec_error(codec, (theta_P - (theta_P - own_P)) + carry_P))


def test_what_is_sampled_of_a_large_vector_is_the_same_part_of_all() -> None:
    count = STRETCH * (STRETCHES + 77) + 5
    node, own_P = OuterHealth(FP32, Fragments.whole(count), 0.7, 0.9), gaussian(4, count)
    node.contribute(1, np.zeros(count, np.float32), -own_P, None)
    assert node.committed(1, encoded(own_P))["agreement"] == pytest.approx(1.0)


def test_what_is_not_finite_has_no_health() -> None:
    node = health()
    theta_P = gaussian(1)
    theta_P[0] = np.inf
    node.contribute(1, theta_P, gaussian(2), None)
    assert node.committed(1, encoded(gaussian(3))) == NOT_KNOWN


def test_each_fragment_has_a_health_of_its_own() -> None:
    """Of its own stretch of the vector, and of the mean that it had one turn before."""
    fragments = Fragments((0, 2048, COUNT))
    node, own_P, other_P = OuterHealth(FP32, fragments, 0.7, 0.9), gaussian(1), gaussian(2)
    node.contribute(2, np.zeros(COUNT, np.float32), -own_P, None)
    first = node.committed(2, encoded(own_P[:2048]))
    assert first["agreement"] == pytest.approx(1.0)
    assert first["mean_cosine"] is None
    assert node.committed(3, encoded(other_P[2048:]))["mean_cosine"] is None
    assert node.committed(4, encoded(-own_P[:2048]))["mean_cosine"] == pytest.approx(-1.0)
    assert node.committed(5, encoded(other_P[2048:]))["mean_cosine"] == pytest.approx(1.0)
    assert node.committed(8, encoded(own_P[:2048]))["mean_cosine"] is None, "it missed one turn"
