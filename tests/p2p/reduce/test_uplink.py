"""All have got everything at the same time, over an uplink that is full to the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.reduce.uplink import BELIEVED, FASTEST, FASTEST_NEAR, PATIENCE_SECONDS, ROOM, Stream, Uplink
from tests.p2p.reduce.fluid_links import Fluid

TICK = 0.25
LONGEST_QUEUE = 0.1
MB = 1_000_000


@dataclass
class World:
    """A node's uplink, of `capacity` bytes a second. Connections keep `kept` of their pace; without paces they share
    the uplink by `greed`, and try for more than there is; and a peer takes no more than its own `limits`."""

    capacity: float = 10.0 * MB
    kept: float = 0.97
    greed: dict[str, float] = field(default_factory=lambda: {"a": 1.0, "b": 1.0, "c": 1.0})
    limits: dict[str, float] = field(default_factory=dict)
    near: bool = False
    now: float = 100.0
    queue: float = 0.0
    uplink: Uplink = field(default_factory=Uplink)

    def reduce(self, size: float, most_seconds: float = 60.0, **sizes: float) -> dict[str, float]:
        """When each has got what it is to get; `size` unless told otherwise."""
        left = {name: sizes.get(name, size) for name in self.greed}
        carried = dict.fromkeys(left, 0.0)
        ends: dict[str, float] = {}
        began = self.now
        while left and self.now < began + most_seconds:
            streams = {name: self.stream(carried[name], left.get(name, 0.0)) for name in carried}
            paces = self.uplink.read(self.now, streams)
            for name, rate in self.rates(paces, left).items():
                carried[name] += rate * TICK
                left[name] -= rate * TICK
                if left[name] < 1:
                    ends[name] = self.now + TICK - began
                    del left[name]
            self.now += TICK
        self.uplink.pause()
        self.queue = 0.0
        return ends

    def begin(self) -> World:
        """Two reduces without paces: it knows its capacity."""
        self.reduce(20 * MB)
        self.reduce(20 * MB)
        assert self.uplink.capacity
        return self

    def stream(self, carried: float, left: float) -> Stream:
        return Stream(int(carried), ceil(left), waiting=left > 0, queued=self.queue, near=self.near)

    def rates(self, paces: dict[str, float] | object, left: dict[str, float]) -> dict[str, float]:
        assert isinstance(paces, dict)
        wanted = {
            name: min(
                self.kept * paces[name] if name in paces else self.capacity * self.greed[name],
                self.limits.get(name, inf),
            )
            for name in left
        }
        total = sum(wanted.values())
        offered = self.queue + TICK * total / self.capacity
        carried = min(TICK, offered)
        self.queue = min(LONGEST_QUEUE, offered - carried)
        return {name: rate / total * self.capacity * carried / TICK for name, rate in wanted.items()}


def test_before_the_way_was_full_for_some_time_nobody_has_a_pace() -> None:
    world = World(greed={"a": 1.0, "b": 3.0})
    ends = world.reduce(7 * MB)
    assert ends["a"] > 1.4 * ends["b"]
    assert world.uplink.capacity == 0
    world.reduce(20 * MB)
    assert world.uplink.capacity == pytest.approx(world.capacity)


def test_an_uplink_that_is_not_full_has_no_capacity_and_its_connections_look_for_room() -> None:
    uplink = Uplink()
    anew = []
    for tick in range(40):
        carried = {"a": tick * MB, "b": tick * MB}
        assert not uplink.read(tick * TICK, {name: Stream(size, MB, True, 0.0) for name, size in carried.items()})
        anew.append(uplink.lagging())
    assert anew.count({"a", "b"}) == int(40 * TICK / PATIENCE_SECONDS) - 1
    assert anew.count(set()) == 40 - anew.count({"a", "b"})


def test_then_all_have_everything_at_the_same_time_and_the_uplink_is_full() -> None:
    world = World(greed={"a": 1.0, "b": 3.0}).begin()
    for _ in range(5):
        assert set(world.reduce(20 * MB).values()) == {4.0}
    ends = world.reduce(10 * MB, b=30 * MB)
    assert set(ends.values()) == {4.0}, "also those who get more"


def test_the_first_capacity_is_rather_too_much_than_too_little() -> None:
    uplink, carried = Uplink(), 0.0
    for tick in range(BELIEVED + 2):
        uplink.read(tick * 0.5, {"a": Stream(int(carried), 10_000, True, 0.05)})
        carried += 600 if tick % 2 else 500
    assert uplink.capacity == 1200.0


def test_a_reduce_too_short_to_tell_is_added_to_the_next() -> None:
    world = World()
    for _ in range(BELIEVED):
        assert world.uplink.capacity == 0
        world.reduce(3 * MB)
    assert world.uplink.capacity > 0


def test_what_a_slow_peer_leaves_the_others_get() -> None:
    world = World(limits={"c": 1.0 * MB}).begin()
    ends = world.reduce(20 * MB)
    assert max(ends["a"], ends["b"]) < 6.0, "what thirds would take"
    assert ends["c"] <= 20.5, "as fast as it can"


def test_a_peer_that_becomes_faster_is_slow_no_longer() -> None:
    world = World(limits={"c": 1.0 * MB}).begin()
    world.reduce(20 * MB)
    world.limits.clear()
    assert max(world.reduce(20 * MB).values()) <= 6.5


@settings(deadline=None, max_examples=50)
@given(kept=st.floats(0.8, 1.0), greed=st.tuples(*[st.floats(0.5, 2.0)] * 3), slow=st.floats(0.05, 1.0))
def test_paces_do_not_make_an_uplink_slower_and_slower(
    kept: float, greed: tuple[float, float, float], slow: float
) -> None:
    world = World(kept=kept, greed=dict(zip("abc", greed, strict=True)), limits={"c": slow * 10 * MB}).begin()
    before = world.uplink.capacity
    for _ in range(20):
        world.reduce(20 * MB)
    assert 0.97 * min(before, world.capacity) < world.uplink.capacity < 1.4 * world.capacity


def test_a_capacity_that_was_taken_for_too_much_is_corrected_in_a_reduce() -> None:
    world = World()
    world.uplink.capacity = 1.3 * world.capacity
    world.reduce(20 * MB)
    assert world.uplink.capacity == pytest.approx(world.capacity, rel=0.03)


def test_an_uplink_that_has_become_faster_is_used_after_some_seconds() -> None:
    world = World().begin()
    world.capacity *= 3
    assert 6 * 10 * MB / world.capacity < max(world.reduce(20 * MB).values()) < 5.0
    assert world.uplink.capacity > 0.6 * world.capacity


def test_an_uplink_that_has_become_much_slower_has_paces_too_high_to_matter() -> None:
    world = World().begin()
    world.capacity /= 10
    world.reduce(20 * MB)
    assert world.uplink.capacity == pytest.approx(10 * MB)


@pytest.mark.parametrize(("near", "fastest"), [(False, FASTEST), (True, FASTEST_NEAR)])
def test_a_fast_uplink_needs_no_paces(near: bool, fastest: float) -> None:
    world = World(capacity=1.1 * fastest, near=near)
    for _ in range(2):
        world.reduce(2 * fastest)
    assert world.uplink.capacity > fastest
    streams = {name: world.stream(0, MB) for name in "ab"}
    assert world.uplink.read(world.now, streams) == {}
    assert world.uplink.lagging() == set()


def test_connections_begin_anew_with_their_first_pace_and_when_they_stay_behind_it_on_an_empty_way() -> None:
    uplink = Uplink()
    uplink.capacity = 1000.0

    def read(now: float, a: float, b: float, queued: float = 0.0) -> set[str]:
        carried = {"a": a, "b": b}
        streams = {name: Stream(int(size), 10_000, True, queued) for name, size in carried.items()}
        assert uplink.read(now, streams).keys() == {"a", "b"}
        return uplink.lagging()

    assert read(0.0, 0, 0) == {"a", "b"}
    assert read(0.5, 250, 150) == set(), "they have just begun"
    assert read(2.0, 1000, 600) == {"b"}
    assert "b" not in read(3.0, 1500, 900), "it has just begun"
    assert "b" not in read(5.0, 2500, 1500, queued=0.05), "its way is full"
    assert "b" in read(6.0, 3000, 1800)
    uplink.pause()
    assert read(50.0, 3000, 1800) == {"a", "b"}, "in each reduce"


def test_no_connection_carries_tensors_for_ten_seconds_without_beginning_anew_and_never_all_at_once() -> None:
    world = World().begin()
    carried = dict.fromkeys("abc", 0.0)
    world.uplink.read(world.now, {name: world.stream(0, 1000 * MB) for name in carried})
    last: dict[str, float] = {}
    for _ in range(200):
        world.now += TICK
        paces = world.uplink.read(world.now, {name: world.stream(size, 1000 * MB) for name, size in carried.items()})
        carried = {name: carried[name] + rate * TICK for name, rate in world.rates(paces, carried).items()}
        anew = world.uplink.lagging()
        assert len(anew) <= 1 or not last
        last.update(dict.fromkeys(anew, world.now))
        assert all(world.now - when < 10.0 for when in last.values()), "BBR would measure its way"


@settings(deadline=None, max_examples=25)
@given(
    beliefs=st.tuples(*[st.floats(0.75, 1.25)] * 4),
    kept=st.floats(0.9, 0.97),
    seconds=st.sampled_from([1.4, 1.7, 6.0]),
    seed=st.integers(0, 1000),
)
def test_nodes_that_believe_in_different_capacities_soon_fill_equal_links(
    beliefs: tuple[float, ...], kept: float, seconds: float, seed: int
) -> None:
    fluid = Fluid([belief * 4 * MB for belief in beliefs], 4 * MB, kept, seed)
    took = [fluid.reduce(seconds) for _ in range(6)]
    assert max(took[-2:]) < 1.07


def test_kept_paces_rise() -> None:
    uplink = Uplink()
    uplink.capacity = 1000.0
    carried = 0.0
    paces = []
    for tick in range(BELIEVED + 2):
        paces.append(uplink.read(tick * 0.5, {"a": Stream(int(carried), 10_000, True, 0.0)})["a"])
        carried += paces[-1] / 2
    assert paces[:2] == [ROOM * 1000] * 2
    assert paces[2:] == sorted(paces[2:])
    assert paces[-1] > 1900, "faster and faster"


def test_a_link_that_was_lost_is_not_measured() -> None:
    uplink = Uplink()
    uplink.capacity = 1000.0
    uplink.read(0.0, {"a": Stream(5000, 100, True, 0.0)})
    uplink.read(0.5, {"a": Stream(10, 100, True, 0.0)})
    assert uplink.capacity == 1000.0


def test_a_frame_that_waits_for_a_link_without_lanes_is_no_part_of_the_uplink() -> None:
    world = World()
    for _ in range(BELIEVED):
        world.reduce(40 * MB)
    assert world.uplink.capacity > 0
    for tick in range(12):
        streams = {"a": Stream(tick * MB, 100 * MB, True, 0.0), "b": Stream(0, 0, True, 0.0)}
        assert world.uplink.read(world.now + tick * TICK, streams).keys() == {"a"}


def test_what_a_way_carries_is_known_after_some_time_and_only_the_newest_counts() -> None:
    world = World()
    world.reduce(5 * MB)
    assert not world.uplink.ways, "connections may have been too young to fill the way"
    world.reduce(20 * MB)
    assert world.uplink.ways == pytest.approx(dict.fromkeys("abc", 10 * MB / 3), rel=0.1)
    world.capacity = 100 * MB
    world.reduce(400 * MB)
    assert min(world.uplink.ways.values()) > 25 * MB
    world.capacity = 10 * MB
    world.reduce(20 * MB)
    assert max(world.uplink.ways.values()) < 4 * MB


def test_a_way_that_was_bad_for_a_moment_is_not_taken_for_narrow() -> None:
    world = World(capacity=100 * MB)
    for _ in range(2):
        world.reduce(100 * MB)
    world.limits["c"] = 5 * MB
    world.reduce(12 * MB)
    assert world.uplink.ways["c"] > 30 * MB


def test_the_way_to_a_peer_whose_own_link_is_slow_carries_little() -> None:
    world = World(capacity=100 * MB, limits={"c": 2.0 * MB})
    for _ in range(2):
        world.reduce(100 * MB)
    assert world.uplink.ways["c"] == pytest.approx(2 * MB, rel=0.05)
    assert world.uplink.ways["a"] > 30 * MB


def test_a_peer_for_whom_there_is_nothing_tells_nothing_of_its_way() -> None:
    uplink = Uplink()
    for tick in range(100):
        uplink.read(tick * TICK, {"a": Stream(0, MB, False, 0.0), "b": Stream(0, MB, True, 0.0)})
    assert uplink.ways == {"b": 0.0}
    uplink.read(101 * TICK, {"a": Stream(0, MB, True, 0.0)})
    uplink.read(103 * TICK, {"a": Stream(0, MB, True, 0.0)})
    assert uplink.ways == {}, "b is gone"
