"""Virtual time: in order, those of a tick as they were put there, and never backwards."""

from __future__ import annotations

from swarm.simulate.virtual.timeline import Timeline, ticks


def test_events_happen_in_order_of_time_and_then_of_insertion() -> None:
    timeline, seen = Timeline(), list[tuple[int, object]]()

    def note(what: object, _unused: object) -> None:
        seen.append((timeline.tick, what))

    timeline.at(5, note, "late")
    timeline.at(2, note, "first")
    timeline.at(2, note, "second")
    while timeline.step():
        pass
    assert seen == [(2, "first"), (2, "second"), (5, "late")]
    assert timeline.pending() == 0


def test_what_an_event_brings_about_at_once_happens_in_the_same_tick() -> None:
    timeline, seen = Timeline(), list[str]()

    def one(_one: object, _other: object) -> None:
        timeline.at(1, lambda *_: seen.append("past"))
        timeline.after(0, lambda *_: seen.append("now"))

    timeline.at(7, one)
    assert timeline.step()
    assert (timeline.tick, seen) == (7, ["past", "now"])
    assert not timeline.step()


def test_seconds_are_a_thousand_ticks() -> None:
    assert ticks(1.2344) == 1234
    timeline = Timeline()
    timeline.at(1500, lambda *_: None)
    timeline.step()
    assert timeline.seconds == 1.5
