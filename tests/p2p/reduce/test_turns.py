"""Turns among peers whose connections differ: what a member and its peers would notice."""

from __future__ import annotations

import heapq

from hypothesis import given
from hypothesis import strategies as st

from p2p.reduce.turns import PATIENCE, Turns

PIECES = 40


class Sender:
    """Sends PIECES to each peer, two at a time: `pace` gives the seconds that one takes on each connection."""

    def __init__(self, pace: dict[str, float]) -> None:
        self.pace = pace
        self.sent = dict.fromkeys(pace, 0)
        self.turns = Turns(self, pace)
        self.now = 0.0
        self.free = dict.fromkeys(pace, 2)
        self.under_way: list[tuple[float, str]] = []
        self.done_at = dict.fromkeys(pace, 0.0)

    def has_next(self, name: str) -> bool:
        return self.sent[name] < PIECES

    def gives(self, name: str) -> tuple[int, int]:
        return self.sent[name], PIECES

    def run(self, until: float = 1e9) -> None:
        while any(map(self.has_next, self.pace)) and self.now < until:
            pauses = [self.offer(name) for name in self.pace if self.free[name] and self.has_next(name)]
            if 0.0 in pauses:
                continue
            ends = [self.under_way[0][0]] if self.under_way else []
            self.now = min([until, *ends, *(self.now + pause + 1e-9 for pause in pauses)])
            while self.under_way and self.under_way[0][0] <= self.now:
                _, name = heapq.heappop(self.under_way)
                self.free[name] += 1

    def offer(self, name: str) -> float:
        pause = self.turns.pause(name, self.now)
        if pause == 0.0:
            self.turns.take(name, self.now)
            self.sent[name] += 1
            self.free[name] -= 1
            self.done_at[name] = max(self.now, self.done_at[name]) + self.pace[name]
            heapq.heappush(self.under_way, (self.done_at[name], name))
        return pause


@given(st.lists(st.floats(1.0, 2.0), min_size=2, max_size=6))
def test_unequal_connections_have_done_at_the_same_time(paces: list[float]) -> None:
    sender = Sender({f"p{index}": pace for index, pace in enumerate(paces)})
    sender.run()
    last = max(sender.done_at.values())
    assert last <= PIECES * max(paces) + 1e-6, "the slowest is held up by nobody"
    assert min(sender.done_at.values()) >= last - 4 * max(paces)


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=6))
def test_everybody_gets_everything_in_the_time_that_the_slowest_takes(paces: list[float]) -> None:
    sender = Sender({f"p{index}": pace for index, pace in enumerate(paces)})
    sender.run()
    assert all(sent == PIECES for sent in sender.sent.values())
    assert max(sender.done_at.values()) <= PIECES * max(paces) * (1 + 1e-6)


def test_who_takes_nothing_any_more_holds_nobody_up_for_long() -> None:
    sender = Sender({"a": 1.0, "b": 1.0, "frozen": 1.0})
    sender.run(until=10.0)
    frozen_at = sender.now
    sender.under_way = [(time, name) for time, name in sender.under_way if name != "frozen"]
    heapq.heapify(sender.under_way)
    sender.free["frozen"] = 0
    left = PIECES - sender.sent["a"]
    sender.run(until=frozen_at + left + PATIENCE + 3)
    assert sender.sent["a"] == sender.sent["b"] == PIECES
    assert sender.sent["frozen"] < PIECES


def test_the_first_pieces_go_to_everybody_at_once() -> None:
    turns = Turns(Sender({"a": 1.0, "b": 1.0}), ["a", "b"])
    assert turns.pause("a", 0.0) == turns.pause("b", 0.0) == 0.0
