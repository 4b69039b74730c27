from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.data.samples import Samples, TooLittleData, evaluation_starts, windows


def counting(size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return (np.arange(size) % 251).astype(np.uint8)


@given(st.integers(2, 400), st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_predicts_each_token_once(size: int, length: int, seed: int, epoch: int) -> None:
    if size <= length:
        return
    samples = Samples(counting(size), length, seed)
    first = epoch * samples.per_epoch
    starts = [samples.window_start(first + i) for i in range(samples.per_epoch)]
    predicted = sorted(start + 1 + i for start in starts for i in range(length))
    assert predicted == list(range(1, samples.per_epoch * length + 1))
    assert size - 1 - len(predicted) < length, "fewer than one window is left over"


def test_targets_are_the_next_tokens() -> None:
    samples = Samples(counting(200), sequence_length=16, seed=3)
    inputs_BL, targets_BL = samples.batch([0, 5, 11])
    assert inputs_BL.shape == targets_BL.shape == (3, 16)
    assert inputs_BL.dtype == targets_BL.dtype == np.int64
    assert (inputs_BL[:, 1:] == targets_BL[:, :-1]).all()
    assert (targets_BL[:, 0] == inputs_BL[:, 0] + 1).all()


def test_epochs_have_orders_of_their_own_and_may_be_read_in_any_order() -> None:
    samples = Samples(counting(4000), sequence_length=16, seed=3)
    count = samples.per_epoch
    first = [samples.window_start(index) for index in range(count)]
    second = [samples.window_start(index) for index in range(count, 2 * count)]
    assert first != second
    assert sorted(first) == sorted(second)
    assert [samples.window_start(index) for index in range(count)] == first


def test_too_little_data_says_what_to_change() -> None:
    with pytest.raises(TooLittleData, match="sequence_length"):
        Samples(counting(16), sequence_length=16, seed=0)
    with pytest.raises(TooLittleData, match="sequence_length"):
        evaluation_starts(16, 16, 1000)


@given(st.integers(2, 5000), st.integers(1, 64), st.integers(1, 6000))
def test_evaluation_windows_do_not_overlap_and_stay_within(size: int, length: int, most: int) -> None:
    if size <= length:
        return
    starts_B = evaluation_starts(size, length, most)
    assert starts_B.size * length <= max(most, length)
    assert (np.diff(starts_B) >= length).all()
    windows(counting(size), starts_B, length)  # raises IndexError if a window leaves the tokens
