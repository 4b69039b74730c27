"""Pseudo-gradient and the search for NaN and infinity."""

from __future__ import annotations

import numpy as np
import pytest

from ops import kernels_finite
from ops.kernels_finite import INFINITY, absmax_bits
from ops.pseudo_gradient import all_finite, pseudo_gradient


def test_it_points_from_the_end_of_training_back_to_its_start() -> None:
    out_P = np.empty(2, np.float32)
    pseudo_gradient(np.array([1, 2], np.float32), np.array([0.5, 3], np.float32), out_P)
    assert out_P.tolist() == [0.5, -1]


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 4095, 4096, 9999])
def test_one_bad_value_is_found_anywhere(bad: float, position: int) -> None:
    x_P = np.full(10_000, np.finfo(np.float32).max)
    assert all_finite(x_P)
    assert kernels_finite.all_finite.py_func(x_P)
    x_P[position] = bad
    assert not all_finite(x_P)
    assert not kernels_finite.all_finite.py_func(x_P)


def test_nothing_and_views_are_finite_too() -> None:
    assert all_finite(np.zeros(0, np.float32))
    assert all_finite(np.zeros(13, np.uint8)[1:].view(np.float32))


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((2, 2), np.float32), np.zeros(8, np.float32)[::2]])
def test_wrong_vectors_are_refused(wrong: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    with pytest.raises(AssertionError):
        all_finite(wrong)


def test_largest_magnitude_by_its_bits() -> None:
    assert absmax_bits(np.array([1, -3, 2], np.float32)).view(np.float32) == 3
    assert absmax_bits(np.array([-0.0], np.float32)) == 0
    assert absmax_bits(np.array([-np.inf, 1], np.float32)) == INFINITY
    assert absmax_bits(np.array([np.inf, -np.nan], np.float32)) > INFINITY
