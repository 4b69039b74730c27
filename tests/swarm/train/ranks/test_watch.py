"""Dead, frozen or stuck: what the watch makes of a group's counters, in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swarm.train.ranks.pulse import Pulse
from swarm.train.ranks.watch import BEAT_SECONDS, FIRST_SECONDS, FROZEN_SECONDS, LEAST_SECONDS, Durations, Lost, Watch

WORLD = 3


class Group:
    """A watch, and the counters of the group that it looks at."""

    def __init__(self, durations: Durations | None = None) -> None:
        self.watch = Watch(WORLD, durations or Durations())
        self.pulse = Pulse.create()
        self.seconds = 0.0

    def run(self, seconds: float, kind: str | None = None, each: Callable[[], None] = lambda: None) -> Lost | None:
        """Look until something is lost, at most for so long."""
        end = self.seconds + seconds
        while self.seconds < end:
            each()
            self.seconds += BEAT_SECONDS
            progress = self.pulse.progress(WORLD)
            if lost := self.watch.look(BEAT_SECONDS, self.pulse.beats(WORLD), progress, kind):
                return lost
        return None

    def beat(self, *ranks: int) -> None:
        for rank in ranks:
            self.pulse.beat(rank)


def test_a_rank_that_is_stopped_is_found_whatever_the_others_do() -> None:
    group = Group()
    assert group.run(100, each=lambda: group.beat(1, 2)) is None
    lost = group.run(100, each=lambda: group.beat(1))
    assert lost == Lost(2, "has given no sign of life for 8 s")
    assert group.seconds == pytest.approx(100 + FROZEN_SECONDS, abs=1)


def test_a_rank_that_is_starting_is_not_expected_to_beat() -> None:
    group = Group()
    assert group.run(100) is None
    group.beat(1, 2)
    assert group.run(100) is not None


def test_a_machine_that_slept_wakes_unharmed() -> None:
    group = Group()
    group.run(2, each=lambda: group.beat(1, 2))
    for _ in range(3):
        assert group.watch.look(3600.0, group.pulse.beats(WORLD), group.pulse.progress(WORLD), "step") is None


def test_the_first_step_has_time_to_compile() -> None:
    group = Group()
    lost = group.run(2000, "step", each=lambda: group.beat(1, 2))
    assert lost is not None
    assert lost.rank is None
    assert group.seconds == pytest.approx(FIRST_SECONDS, abs=1)


def test_a_step_is_stuck_when_it_takes_many_times_what_steps_took() -> None:
    durations = Durations()
    for _ in range(5):
        durations.add("step", 10.0)
    durations.add("step", 300.0)  # one that compiled
    group = Group(durations)
    lost = group.run(2000, "step", each=lambda: group.beat(1, 2))
    assert lost is not None
    assert group.seconds == pytest.approx(200, abs=1)
    assert durations.patience("evaluate") == FIRST_SECONDS, "nothing is known of these"


def test_short_steps_do_not_make_it_impatient() -> None:
    durations = Durations()
    durations.add("step", 0.01)
    assert durations.patience("step") == LEAST_SECONDS


def test_the_rank_that_is_behind_is_named() -> None:
    group = Group()
    for rank in range(WORLD):
        group.pulse.begin(rank)
    for rank in (0, 1):
        group.pulse.end(rank)
    lost = group.run(2000, "step", each=lambda: group.beat(1, 2))
    assert lost is not None
    assert lost.rank == 2
    assert str(lost).startswith("rank 2 made no progress in 'step' for")


def test_progress_and_idleness_are_no_hang() -> None:
    group = Group()

    def work() -> None:
        group.beat(1, 2)
        group.pulse.begin(1)

    assert group.run(3000, "step", each=work) is None
    assert group.run(3000, None, each=lambda: group.beat(1, 2)) is None
