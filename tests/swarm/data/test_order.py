from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.data.order import TooLittleData, WindowOrder

SIZES = st.integers(1, 40).flatmap(lambda length: st.tuples(st.integers(length, 400), st.just(length)))


@given(SIZES, st.integers(0, 5), st.integers(1, 4))
def test_epochs_take_each_token_once_and_drop_none(sizes: tuple[int, int], seed: int, epochs: int) -> None:
    """The windows of the first epochs are those of the endless text up to there: no gap, no overlap."""
    tokens, length = sizes
    order = WindowOrder("text", tokens, length, seed)
    windows = -(-epochs * tokens // length)
    seen = sorted(order.begin(position) for position in range(windows))
    assert seen == sorted(window * length % tokens for window in range(windows))


@given(SIZES, st.integers(0, 3))
def test_a_position_never_leaves_its_epoch(sizes: tuple[int, int], epoch: int) -> None:
    tokens, length = sizes
    order = WindowOrder("text", tokens, length, seed=1)
    first, stop = -(-epoch * tokens // length), -(-(epoch + 1) * tokens // length)
    begins = {order.begin(position) for position in range(first, stop)}
    assert begins == {window * length % tokens for window in range(first, stop)}


def test_epochs_sources_and_seeds_have_orders_of_their_own_and_may_be_asked_in_any_order() -> None:
    def epoch(number: int, name: str = "text", seed: int = 3) -> list[int]:
        order = WindowOrder(name, 4000, 16, seed)
        return [order.begin(position) for position in range(250 * number, 250 * (number + 1))]

    first = epoch(0)
    assert len({tuple(first), tuple(epoch(1)), tuple(epoch(0, name="code")), tuple(epoch(0, seed=4))}) == 4
    assert epoch(0) == first
    assert sorted(epoch(1)) == sorted(first)


def test_the_order_never_changes() -> None:
    """Members of one run may run different releases: they must agree on which samples an index means."""
    order = WindowOrder("text", 10_000, 16, seed=42)
    assert [order.begin(position) for position in (0, 1, 2, 624, 625, 10**9)] == GOLDEN


def test_too_little_data_says_what_to_change() -> None:
    WindowOrder("text", 16, 16, seed=0)
    with pytest.raises(TooLittleData, match=r"text has 15 tokens.*sequence_length"):
        WindowOrder("text", 15, 16, seed=0)


GOLDEN = [9104, 704, 1424, 8448, 6048, 1264]
