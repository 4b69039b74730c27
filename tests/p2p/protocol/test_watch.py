"""What is told of peers: each change once, with its reason."""

from __future__ import annotations

import pytest

from p2p.protocol.effects import Note
from p2p.protocol.liveness import SILENCE_SECONDS, WITNESS_SECONDS, Liveness, tag
from p2p.protocol.watch import Watch

ALL = [tag(peer) for peer in "abc"]


@pytest.fixture
def liveness() -> Liveness:
    """We are `a`; `b` and `c` are linked and have just spoken."""
    found = Liveness("a")
    for peer in "bc":
        found.linked(peer, 0.0)
        found.heard(peer, ALL, 0.0)
    return found


def test_nothing_is_told_of_peers_that_are_well(liveness: Liveness) -> None:
    watch = Watch(liveness)
    assert watch.look(4, 0.0) == watch.look(4, SILENCE_SECONDS / 2) == []


def test_a_lost_link_and_a_refused_redial_are_told_with_their_reasons_once(liveness: Liveness) -> None:
    watch = Watch(liveness)
    watch.look(4, 0.0)
    liveness.unlinked("b", "connection reset")
    assert watch.look(4, 1.0) == [], "a redial is on its way"
    liveness.unreachable("b", 1.1, "connection refused")
    assert watch.look(4, 1.1) == [], "c may still hear it"
    liveness.heard("c", [tag("a")], 1.3)
    reason = "link lost (connection reset), redial failed (connection refused), and nobody hears it"
    assert watch.look(4, 1.3) == [Note("dead", {"round": 4, "peer": "b", "reason": reason})]
    assert watch.look(5, 2.0) == []


def test_a_peer_that_only_we_miss_is_doubted_and_then_back(liveness: Liveness) -> None:
    watch = Watch(liveness)
    watch.look(4, 0.0)
    later = SILENCE_SECONDS + 0.5
    liveness.heard("c", ALL, later)
    doubt = {"round": 4, "peer": "b", "reason": "silent for 6.5 s", "heard_by": ("c",)}
    assert watch.look(4, later) == [Note("doubted", doubt)]
    liveness.heard("b", ALL, later + 1)
    assert watch.look(4, later + 1) == [Note("returned", {"round": 4, "peer": "b", "was": "doubted", "seconds": 1.0})]


def test_silence_that_all_confirm_is_death(liveness: Liveness) -> None:
    watch = Watch(liveness)
    watch.look(4, 0.0)
    later = SILENCE_SECONDS + 0.5
    liveness.heard("c", [], later)
    assert [(note.event, note.fields["reason"]) for note in watch.look(4, later)] == [
        ("dead", "silent for 6.5 s, and nobody hears it")
    ]


def test_who_leaves_is_dead_by_its_own_word_and_may_come_back(liveness: Liveness) -> None:
    watch = Watch(liveness)
    watch.look(4, 0.0)
    liveness.left("b", 1.0)
    assert [note.fields["reason"] for note in watch.look(4, 1.0)] == ["it said that it leaves"]
    liveness.linked("b", 3.0)
    assert watch.look(5, 3.0) == [Note("returned", {"round": 5, "peer": "b", "was": "dead", "seconds": 2.0})]


def test_a_forgotten_peer_is_new_when_it_comes_again(liveness: Liveness) -> None:
    watch = Watch(liveness)
    watch.look(4, 0.0)
    liveness.unlinked("b")
    liveness.unreachable("b", 1.0)
    assert [note.event for note in watch.look(4, 1.1 + WITNESS_SECONDS)] == ["dead"]
    liveness.forget("b")
    watch.look(4, 60.0)
    liveness.linked("b", 61.0)
    assert [note for note in watch.look(4, 61.0) if note.fields["peer"] == "b"] == []
