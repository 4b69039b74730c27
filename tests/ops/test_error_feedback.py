"""Two-sided error feedback: the same bytes as without it for the same values, and nothing is lost over rounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.codec import CODECS, Encoded, NonFinite
from ops.error_feedback import ErrorFeedback

Floats = npt.NDArray[np.float32]
INT2 = CODECS["int2"]
MEANS = INT2.of_means
PIECE = 512
seeds = st.integers(0, 2**32 - 1)


def decoded(src: Encoded) -> Floats:
    out_P = np.empty(src.count, np.float32)
    src.codec.decode(src, out_P)
    return out_P


def same_bytes(a: Encoded, b: Encoded) -> bool:
    return a.scales_B.tobytes() == b.scales_B.tobytes() and a.codes.tobytes() == b.codes.tobytes()


def normal(count: int, seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 3000), seeds)
def test_the_rest_is_exactly_what_was_not_written(count: int, seed: int) -> None:
    a_P, b_P, carry_P = normal(count, seed), normal(count, seed + 1), normal(count, seed + 2)
    wanted_P = carry_P + (a_P - b_P)
    out, plain = Encoded.allocate(INT2, count), Encoded.allocate(INT2, count)
    INT2.quantise_with_feedback(a_P, b_P, carry_P, out)
    INT2.quantise(wanted_P, plain)
    assert same_bytes(out, plain)
    assert carry_P.tobytes() == (wanted_P - decoded(out)).tobytes()


@settings(deadline=None)
@given(st.integers(1, 3000), seeds, st.integers(1, 5))
def test_a_mean_with_a_rest_is_the_mean(count: int, seed: int, members: int) -> None:
    parts = [Encoded.allocate(INT2, count) for _ in range(members)]
    for number, part in enumerate(parts):
        INT2.quantise(normal(count, seed + number), part)
    weights = [float(1 + number) for number in range(members)]
    plain, out, left_P = Encoded.allocate(MEANS, count), Encoded.allocate(MEANS, count), np.empty(count, np.float32)
    INT2.mean(parts, weights, plain)
    INT2.mean_with_rest(parts, weights, out, left_P)
    assert same_bytes(out, plain)
    sum_P = np.zeros(count, np.float32)
    for part, weight in zip(parts, weights, strict=True):
        INT2.decode_add(part, weight / sum(weights), sum_P)
    assert left_P.tobytes() == (sum_P - decoded(out)).tobytes()


@pytest.mark.parametrize("count", [1, 256, 257, 1000])
def test_compiled_kernels_do_what_python_does(count: int) -> None:
    assert INT2.feedback is not None
    a_P, b_P, carry_P = normal(count, 1), normal(count, 2), normal(count, 3)
    python_P, out, python = carry_P.copy(), Encoded.allocate(INT2, count), Encoded.allocate(INT2, count)
    INT2.quantise_with_feedback(a_P, b_P, carry_P, out)
    INT2.feedback.quantise.py_func(a_P, b_P, python_P, python.scales_B, python.codes)
    assert same_bytes(out, python)
    assert carry_P.tobytes() == python_P.tobytes()


def test_a_carry_that_is_no_number_is_found() -> None:
    carry_P = np.full(3, np.nan, np.float32)
    with pytest.raises(NonFinite):
        INT2.quantise_with_feedback(normal(3, 0), normal(3, 1), carry_P, Encoded.allocate(INT2, 3))


@dataclass
class Swarm:
    """Members with constant shares that contribute, own pieces in turn, and commit."""

    weights: list[float]
    count: int

    def __post_init__(self) -> None:
        self.members = [ErrorFeedback(INT2, self.count) for _ in self.weights]
        self.applied_P = np.zeros(self.count)
        """Sum of the committed means."""
        self.wanted_P = np.zeros(self.count)
        """Sum of the exact means of what members had to contribute."""

    def round(self, seed: int, owners: list[list[int]]) -> Encoded:
        """`owners`: of each piece, those who reduce it in one attempt after the other; the last one's is committed."""
        shares = [weight / sum(self.weights) for weight in self.weights]
        parts = [Encoded.allocate(INT2, self.count) for _ in self.members]
        for number, (member, part) in enumerate(zip(self.members, parts, strict=True)):
            gradient_P = normal(self.count, seed + number) * np.float32(10.0 ** (seed % 7 - 3))
            self.wanted_P += shares[number] * gradient_P.astype(np.float64)
            zero_P = np.zeros_like(gradient_P)
            INT2.quantise_with_feedback(gradient_P, zero_P, member.carry_P, part)
        mean = Encoded.allocate(MEANS, self.count)
        for start, tries in zip(range(0, self.count, PIECE), owners, strict=True):
            stop = min(start + PIECE, self.count)
            pieces = [part.slice(start, stop) for part in parts]
            for owner in tries[:-1]:  # given up: the last one had not contributed to these
                lost = Encoded.allocate(MEANS, stop - start)
                self.members[owner].mean(pieces[:-1], self.weights[:-1], start, lost)
            self.members[tries[-1]].mean(pieces, self.weights, start, mean.slice(start, stop))
        for member, share in zip(self.members, shares, strict=True):
            member.commit(mean, share)
        self.applied_P += decoded(mean)
        return mean

    def owed_P(self) -> npt.NDArray[np.float64]:
        """What members carry, as the next mean would have it."""
        total = sum(self.weights)
        shares = (weight / total for weight in self.weights)
        owed = [share * member.carry_P.astype(np.float64) for share, member in zip(shares, self.members, strict=True)]
        return np.asarray(sum(owed))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=5), st.integers(1, 3 * PIECE), seeds, st.data())
def test_nothing_is_lost_whoever_owns_what_and_however_often(
    weights: list[int], count: int, seed: int, data: st.DataObject
) -> None:
    """Applied + owed = wanted, over rounds with changing owners and attempts that were given up."""
    swarm = Swarm([float(weight) for weight in weights], count)
    tries = st.lists(st.integers(0, len(weights) - 1), min_size=1, max_size=3)
    pieces = -(-count // PIECE)
    size = 0.0
    for turn in range(4):
        swarm.round(seed + 100 * turn, data.draw(st.lists(tries, min_size=pieces, max_size=pieces)))
        size = max(size, float(np.abs(swarm.wanted_P).max()), float(np.abs(swarm.owed_P()).max()))
        np.testing.assert_allclose(swarm.applied_P + swarm.owed_P(), swarm.wanted_P, atol=1e-4 * size)


def test_a_constant_gradient_is_applied_in_full_over_time() -> None:
    """Without feedback the mean of many rounds would keep the error of one, 0.3; with it, it falls as 1 / rounds."""
    swarm, rounds, count = Swarm([1.0] * 4, 2048), 30, 2048
    for turn in range(rounds):
        swarm.round(7, [[turn % 4] for _ in range(0, count, PIECE)])
    error = np.linalg.norm(swarm.applied_P - swarm.wanted_P) / np.linalg.norm(swarm.wanted_P)
    assert error < 0.12


def test_the_mean_of_one_is_written_anew_too_and_what_it_lacks_is_owed() -> None:
    member, part, mean = ErrorFeedback(INT2, 512), Encoded.allocate(INT2, 512), Encoded.allocate(MEANS, 512)
    INT2.quantise(normal(512, 0), part)
    member.mean([part], [3.0], 0, mean)
    member.commit(mean, 1.0)
    assert member.carry_P.tobytes() == (decoded(part) - decoded(mean)).tobytes()


def test_what_belonged_to_another_theta_is_dropped() -> None:
    member = ErrorFeedback(INT2, 512)
    at_work_P = member.carry_P
    at_work_P[:] = 1
    member.reset()
    at_work_P[:] = 2  # by a kernel of the round that we missed
    assert not member.carry_P.any()


def test_a_fragments_rest_is_owed_where_it_lies_in_the_vector() -> None:
    begin = 2 * PIECE
    feedback, alone = ErrorFeedback(INT2, 4 * PIECE), ErrorFeedback(INT2, PIECE)
    parts = [Encoded.allocate(INT2, PIECE) for _ in range(2)]
    for number, part in enumerate(parts):
        INT2.quantise(normal(PIECE, number), part)
    for one, start in ((feedback, begin), (alone, 0)):
        mean = Encoded.allocate(MEANS, PIECE)
        one.mean(parts, [1.0, 2.0], 0, mean)
        one.commit(mean, 0.5, start)
    assert feedback.carry_P[begin : begin + PIECE].tobytes() == alone.carry_P.tobytes()
    assert alone.carry_P.any()
    assert not feedback.carry_P[:begin].any()
    assert not feedback.carry_P[begin + PIECE :].any()
