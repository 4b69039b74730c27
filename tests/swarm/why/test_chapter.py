"""A node's part in a round is cut out of its log whole, and nothing of another round with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarm.events import (
    Attempt,
    Behind,
    Committed,
    Evaluated,
    Event,
    Left,
    PeerDown,
    Ready,
    Reducing,
    Started,
    Superseded,
    Synced,
    Train,
)
from swarm.why.chapter import AFTER, BEFORE, Chapter, Log, chapters
from tests.swarm.why.test_tell import A, applied


def ready(round: int) -> Ready:
    return Ready(round=round, tokens=1, samples=1)


def reducing(round: int, attempt: int = 0) -> Reducing:
    return Reducing(round=round, attempt=attempt, coordinator=A, members=1)


def commit(round: int) -> Committed:
    return Committed(round=round, attempt=0, record="aa", members=(A,), weights=(1,), signatures=1)


def cut(round: int, *entries: tuple[float, Event]) -> list[Chapter]:
    return chapters(Log("anna", entries), round)


def told(chapter: Chapter) -> list[tuple[float, int, str]]:
    return [(round(entry.seconds, 3), entry.attempt, entry.event.EVENT) for entry in chapter.entries]


def test_a_chapter_begins_with_the_outer_step_before_and_ends_with_its_own() -> None:
    (chapter,) = cut(
        3,
        (0.0, Started(peer=A, port=1, bootstrap=())),
        (9.0, commit(2)),
        (10.0, applied(A, 2)),
        (11.0, Train(round=3, inner_step=1, loss=2.0)),
        (12.0, ready(3)),
        (12.5, reducing(3)),
        (13.0, PeerDown(peer="b", reason="x")),
        (13.5, Attempt(round=3, attempt=1, reason="y")),
        (14.0, reducing(3, 1)),
        (15.0, commit(3)),
        (15.1, PeerDown(peer="c", reason="x")),
        (15.2, applied(A, 3)),
        (15.3, Evaluated(round=3, held_out_loss=1.0)),
        (16.0, ready(4)),
    )
    assert (chapter.node, chapter.peer, chapter.began, chapter.closed) == ("anna", A, 10.0, True)
    assert told(chapter) == [
        (1.0, BEFORE, "train"),
        (2.0, BEFORE, "ready"),
        (2.5, 0, "reducing"),
        (3.0, 0, "peer_down"),
        (3.5, 1, "attempt"),
        (4.0, 1, "reducing"),
        (5.0, 1, "committed"),
        (5.1, AFTER, "peer_down"),
        (5.2, AFTER, "round"),
    ]
    assert chapter.committed
    assert chapter.commits() == {2: 10.0, 3: 15.2}


def test_who_falls_behind_is_followed_until_it_holds_the_state_again() -> None:
    (chapter,) = cut(
        3,
        (10.0, Synced(round=2, bytes=0, seconds=0, donors=0)),
        (11.0, Superseded(round=3, attempt=2, peer=A)),
        (12.0, Behind(reason="x")),
        (15.0, Synced(round=5, bytes=0, seconds=0, donors=1)),
        (16.0, ready(6)),
    )
    assert told(chapter) == [(1.0, 2, "superseded"), (2.0, AFTER, "behind"), (5.0, AFTER, "synced")]
    assert not chapter.committed
    assert chapter.commits() == {}


def test_a_log_that_begins_in_the_midst_of_a_round_tells_the_rest_of_it() -> None:
    (chapter,) = cut(3, (20.0, reducing(3)), (21.0, applied(A, 3)))
    assert told(chapter) == [(0.0, 0, "reducing"), (1.0, 0, "round")]


def test_commits_alone_are_marks_enough() -> None:
    (chapter,) = cut(3, (10.0, commit(2)), (11.0, ready(3)), (12.0, commit(3)), (13.0, ready(4)))
    assert told(chapter) == [(1.0, BEFORE, "ready"), (2.0, BEFORE, "committed")]
    assert chapter.closed


def test_a_round_on_two_histories_gives_two_chapters() -> None:
    once = ((10.0, applied(A, 2)), (11.0, ready(3)), (12.0, applied(A, 3)))
    again = ((20.0, Synced(round=2, bytes=0, seconds=0, donors=1)), (21.0, ready(3)), (22.0, applied(A, 3)))
    assert [chapter.began for chapter in cut(3, *once, *again)] == [10.0, 20.0]


def test_a_log_without_the_round_has_no_chapter() -> None:
    assert cut(9, (10.0, applied(A, 2)), (11.0, Evaluated(round=9, held_out_loss=1.0)), (12.0, Left(round=9))) == []
    (chapter,) = cut(3, (10.0, applied(A, 2)), (11.0, Left(round=2)))
    assert not chapter.eventful


@given(st.lists(st.sampled_from([ready, reducing, commit, lambda r: applied(A, r)]), max_size=12), st.data())
def test_whatever_the_log_every_event_is_in_one_chapter_at_most(kinds: list, data: st.DataObject) -> None:  # type: ignore[type-arg]
    events = [kind(data.draw(st.integers(2, 4))) for kind in kinds]
    entries = [(float(place), event) for place, event in enumerate(events)]
    found = chapters(Log("anna", entries), 3)
    times = [chapter.began + entry.seconds for chapter in found for entry in chapter.entries]
    assert times == sorted(set(times))
    assert all(isinstance(event, Event) for event in events)
