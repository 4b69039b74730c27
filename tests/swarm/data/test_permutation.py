from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.data.permutation import Permutation


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1), st.integers(0, 1000))
def test_every_index_goes_to_a_place_of_its_own(count: int, seed: int, epoch: int) -> None:
    permutation = Permutation(count, seed, epoch)
    assert sorted(map(permutation, range(count))) == list(range(count))


@pytest.mark.parametrize("count", [1 << 20, (1 << 20) + 1, 10**12])
def test_large_ranges_need_no_memory_and_stay_within(count: int) -> None:
    permutation = Permutation(count, seed=1)
    places = [permutation(index) for index in [*range(500), count - 1]]
    assert len(set(places)) == 501
    assert all(0 <= place < count for place in places)


def test_seed_and_epoch_choose_the_order() -> None:
    orders = {tuple(map(Permutation(100, seed, epoch), range(100))) for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]}
    assert len(orders) == 4


def test_the_order_never_changes() -> None:
    """Members of one run may run different releases: they must agree on which samples an index means."""
    assert [Permutation(1000, seed=42, epoch=3)(index) for index in range(8)] == GOLDEN_ORDER


def test_the_order_looks_random() -> None:
    """No more fixed points or ascending neighbours than chance gives."""
    count = 4096
    order = list(map(Permutation(count, seed=5), range(count)))
    assert sum(index == place for index, place in enumerate(order)) < 8
    rising = sum(left < right for left, right in itertools.pairwise(order))
    assert abs(rising - count / 2) < 150


def test_an_index_outside_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        Permutation(10, seed=0)(10)


GOLDEN_ORDER = [532, 707, 966, 880, 358, 778, 329, 510]
