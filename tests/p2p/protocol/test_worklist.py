"""Queues of chunks: each chunk is in exactly one place, whatever happens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.donors import Request
from p2p.protocol.holdings import EMPTY, NOTHING_HELD, Held, Holdings, Need, Target
from p2p.protocol.transfer_messages import GetChunk, GetManifest
from p2p.protocol.worklist import Worklist

A, B = b"a" * 32, b"b" * 32


def worklist(*rounds: int) -> Worklist:
    holdings = Holdings([Held(round, A) if round != EMPTY else NOTHING_HELD for round in rounds], 3)
    holdings.aim(Target(5, b"", b""), {})
    work = Worklist(holdings, range(len(rounds)))
    work.place_all(0.0)
    return work


def request(index: int, number: int = 0) -> Request:
    return Request(number, "a", GetChunk(request=number, index=index), index, -1, 1, 0.0)


def test_chunks_are_sorted_by_need() -> None:
    work = worklist(EMPTY, 3, 4, 4, 5, 0)
    assert list(work.missing) == [0, 5]
    assert {round: list(waiting) for round, waiting in work.behind.items()} == {4: [1], 5: [2, 3]}
    assert list(work.undecided) == [4]
    assert [work.take_missing(), work.take_missing(), work.take_missing()] == [0, 5, None]
    assert [work.take_behind(5), work.take_behind(5), work.take_behind(5)] == [2, 3, None]
    assert work.take_behind(9) is None


def test_a_void_request_frees_its_chunk_unless_another_is_under_way() -> None:
    work = worklist(EMPTY)
    work.take_missing()
    work.ask(request(0, 1))
    work.ask(request(0, 2))
    work.unask(request(0, 1), 1.0)
    assert work.missing == {}
    work.unask(request(0, 2), 1.0)
    assert list(work.missing) == [0]
    work.unask(Request(3, "a", GetManifest(request=3, round=5), -1, 5, 1, 0.0), 1.0)
    assert list(work.missing) == [0]


def test_an_answer_voids_the_other_requests() -> None:
    work = worklist(EMPTY)
    work.take_missing()
    work.ask(request(0, 1))
    work.ask(request(0, 2))
    assert [other.id for other in work.work_on(0)] == [1, 2]
    work.settle(0, Held(5, A, "a"), 1.0)
    assert list(work.undecided) == [0]
    work.holdings.learn(5, [A])
    work.place_all(2.0)
    assert work.empty


def test_a_manifest_that_comes_while_a_chunk_is_stored_decides() -> None:
    work = worklist(EMPTY)
    work.take_missing()
    work.work_on(0)
    work.holdings.learn(5, [B])
    work.place_all(1.0)
    assert work.missing == {}, "it is being worked on"
    work.settle(0, Held(5, A, "a"), 2.0)
    assert list(work.missing) == [0]
    assert work.holdings.held == [NOTHING_HELD]


def test_how_long_a_chunk_is_undecided_is_remembered() -> None:
    work = worklist(5)
    work.place_all(7.0)
    assert work.undecided == {0: 0.0}
    work.forget(0, 8.0)
    assert work.undecided == {}
    assert list(work.missing) == [0]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=40))
def test_every_chunk_is_in_one_place(steps: list[tuple[int, int]]) -> None:
    work = worklist(EMPTY, 3, 4, 5, 1)
    for now, (action, index) in enumerate(steps):
        if action == 0 and (taken := work.take_missing()) is not None:
            work.ask(request(taken, now))
        elif action == 1 and (taken := work.take_behind(5)) is not None:
            work.work_on(taken)
        elif action == 2 and index in work.busy:
            work.settle(index, Held(4 + index % 2, A), float(now))
        elif action == 3:
            work.place_all(float(now))
        elif action == 4 and work.busy.get(index):
            work.unask(work.busy[index][0], float(now))
        for chunk in range(5):
            waiting = [chunk in queue for queue in work.behind.values()]
            places = [chunk in work.busy, chunk in work.missing, chunk in work.undecided, *waiting]
            need = work.holdings.need(chunk)
            assert sum(places) == (0 if need is Need.NOTHING and chunk not in work.busy else 1)
