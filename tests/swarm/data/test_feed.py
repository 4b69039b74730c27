from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.data.batch import Batch
from swarm.data.feed import DEPTH, THREADS, Feed, looking_ahead


def made(indices: Sequence[int]) -> Batch:
    row_BL = np.array(indices, dtype=np.int64)[:, None]
    return Batch(row_BL, row_BL, None, tuple(indices))


class Gate:
    """Makes batches once it is opened, and remembers which were begun."""

    def __init__(self) -> None:
        self.open, self.begun, self.changed = threading.Event(), list[tuple[int, ...]](), threading.Condition()

    def __call__(self, indices: Sequence[int]) -> Batch:
        with self.changed:
            self.begun.append(tuple(indices))
            self.changed.notify_all()
        assert self.open.wait(30)
        return made(indices)

    def await_begun(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= count, 30)


PAIRS = [(i, i + 1) for i in range(0, 40, 2)]


def test_each_batch_is_made_once_and_before_it_is_asked_for_but_not_many() -> None:
    gate = Gate()
    gate.open.set()
    with Feed(gate, depth=3, threads=1) as feed:
        feed.expect(PAIRS)
        gate.await_begun(3)
        assert gate.begun == PAIRS[:3]
        for number, pair in enumerate(PAIRS):
            batch = feed.batch(pair)
            assert batch is not None
            assert batch.indices == pair
            feed.expect(PAIRS[number + 1 :])
            gate.await_begun(min(number + 4, len(PAIRS)))
        assert gate.begun == PAIRS


def test_what_is_not_expected_any_more_is_not_made() -> None:
    gate = Gate()
    with Feed(gate, threads=1) as feed:
        feed.expect(PAIRS[:4])
        gate.await_begun(1)
        feed.expect(PAIRS[3:5])
        gate.open.set()
        feed.batch(PAIRS[4])
        assert gate.begun == [PAIRS[0], PAIRS[4], PAIRS[3]] or gate.begun == [PAIRS[0], PAIRS[3], PAIRS[4]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5).map(lambda i: (i,)), max_size=12), st.data())
def test_whatever_was_expected_the_batch_is_the_one_asked_for(asked: list[tuple[int]], data: st.DataObject) -> None:
    with Feed(made, depth=2) as feed:
        for indices in asked:
            if data.draw(st.booleans()):
                feed.expect(data.draw(st.lists(st.integers(0, 5).map(lambda i: (i,)), max_size=4)))
            batch = feed.batch(indices)
            assert batch is not None
            assert batch.indices == indices


def test_an_error_comes_with_its_own_batch_and_the_others_are_whole() -> None:
    def broken(indices: Sequence[int]) -> Batch:
        if indices == (2, 3):
            raise OSError("no such shard")
        return made(indices)

    with Feed(broken) as feed:
        feed.expect(PAIRS[:3])
        assert feed.batch(PAIRS[0]) is not None
        with pytest.raises(OSError, match="no such shard"):
            feed.batch(PAIRS[1])
        assert feed.batch(PAIRS[2]) is not None


def test_a_time_out_of_the_reader_is_an_error_like_any_other() -> None:
    def late(indices: Sequence[int]) -> Batch:
        raise TimeoutError("the store does not answer")

    with Feed(late) as feed, pytest.raises(TimeoutError, match="the store"):
        feed.batch(PAIRS[0])


def test_a_stop_is_heard_while_waiting_and_the_batch_may_be_asked_for_again() -> None:
    gate, stop = Gate(), threading.Event()
    with Feed(gate) as feed:
        feed.expect(PAIRS)
        threading.Thread(target=lambda: (gate.await_begun(1), stop.set())).start()
        assert feed.batch(PAIRS[0], stop.is_set) is None
        gate.open.set()
        again = feed.batch(PAIRS[0])
        assert again is not None
        assert again.indices == PAIRS[0]


def test_waiting_is_measured() -> None:
    gate = Gate()
    with Feed(gate) as feed:
        threading.Timer(0.05, gate.open.set).start()
        feed.batch(PAIRS[0])
        assert feed.waited_seconds > 0.01


def test_closing_waits_for_nobody_and_leaves_no_thread() -> None:
    gate, others = Gate(), set(threading.enumerate())
    feed = Feed(gate)
    feed.expect(PAIRS)
    gate.await_begun(1)
    feed.close()
    gate.open.set()
    for thread in set(threading.enumerate()) - others:
        thread.join(30)
        assert not thread.is_alive()
    assert len(gate.begun) <= THREADS


@given(st.integers(0, 60), st.integers(1, 7), st.integers(0, 12))
def test_looking_ahead_shows_each_batch_once_and_the_next_ones_beside_it(count: int, size: int, most: int) -> None:
    samples = iter(range(count))
    expected = [tuple(range(start, min(start + size, count))) for start in range(0, count, size)][:most]
    shown = list(looking_ahead(samples, size, most))
    assert [current for current, _ in shown] == expected
    for number, (_, ahead) in enumerate(shown):
        assert ahead == expected[number + 1 : number + 1 + DEPTH]
    assert next(samples, count) == min(count, size * most), "no sample beyond the last batch is drawn"
