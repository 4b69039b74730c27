"""Who counts as alive: links, silences, and the word of others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.liveness import SILENCE_SECONDS, WITNESS_SECONDS, Liveness, tag

BOTH = [tag("b"), tag("c")]


def trio(now: float = 0.0) -> Liveness:
    """We are `a`; `b` and `c` have links to us and have just spoken."""
    liveness = Liveness("a")
    for peer in "bc":
        liveness.linked(peer, now)
        liveness.heard(peer, BOTH, now)
    return liveness


def test_we_are_alive_and_strangers_are_not() -> None:
    liveness = Liveness("a")
    assert liveness.alive("a", 0)
    assert not liveness.alive("b", 0)
    assert liveness.peers() == ()


def test_a_lost_link_alone_is_no_death() -> None:
    liveness = trio()
    liveness.unlinked("b")
    assert liveness.alive("b", 1.0)
    assert liveness.suspect_since("b", 1.0) is None


def test_lost_link_and_refused_redial_is_death_once_the_others_agree() -> None:
    liveness = trio()
    liveness.unlinked("b")
    liveness.unreachable("b", 1.1)
    assert liveness.alive("b", 1.2), "c has not spoken since the suspicion began"
    liveness.heard("c", [], 1.3)
    assert not liveness.alive("b", 1.3)


def test_a_peer_that_others_still_hear_is_alive_for_us_too() -> None:
    liveness = trio()
    liveness.unlinked("b")
    liveness.unreachable("b", 1.1)
    liveness.heard("c", BOTH, 5.0)
    assert liveness.alive("b", 5.0)


def test_a_witness_that_noticed_before_us_is_not_waited_for() -> None:
    liveness = trio()
    liveness.heard("c", (tag("a"),), 0.9)
    liveness.unlinked("b")
    liveness.unreachable("b", 1.0)
    assert not liveness.alive("b", 1.0)


def test_we_do_not_wait_for_the_word_of_a_witness_for_ever() -> None:
    liveness = trio()
    liveness.unlinked("b")
    liveness.unreachable("b", 1.0)
    assert not liveness.alive("b", 1.0 + WITNESS_SECONDS)


def test_silence_is_death_and_is_told_to_others_before() -> None:
    liveness = trio()
    half, whole = SILENCE_SECONDS / 2 + 0.1, SILENCE_SECONDS + 0.1
    assert liveness.silent(half) == (("b", half), ("c", half))
    assert liveness.alive("b", half)
    liveness.heard("c", [], whole)
    assert not liveness.alive("b", whole)
    assert liveness.alive("c", whole)


def test_who_never_had_a_link_to_a_suspect_does_not_vouch_for_it() -> None:
    liveness = trio()
    liveness.unlinked("b")
    liveness.unreachable("b", 1.0)
    liveness.linked("newcomer", 2.0)
    liveness.heard("c", [], 2.0)
    liveness.heard("newcomer", [tag("c")], 2.1)
    assert not liveness.alive("b", 2.1)


def test_we_hear_those_with_a_link_who_spoke_of_late() -> None:
    liveness = trio()
    assert liveness.hears(1.0) == tuple(sorted(BOTH))
    liveness.unlinked("b")
    assert liveness.hears(1.0) == (tag("c"),)
    assert liveness.hears(SILENCE_SECONDS) == ()


def test_leaving_is_death_by_ones_own_word_and_a_new_link_is_a_new_life() -> None:
    liveness = trio()
    liveness.left("b", 1.0)
    assert not liveness.alive("b", 1.0)
    assert liveness.silent(10.0) == (("c", 10.0),)
    liveness.linked("b", 2.0)
    assert liveness.alive("b", 2.0)


def test_a_peer_is_gone_when_it_has_no_link_and_has_long_said_nothing() -> None:
    liveness = trio()
    liveness.unlinked("b")
    assert liveness.gone(60.0, 60.0) == ()
    assert liveness.gone(60.0, 61.0) == ("b",)


def test_a_forgotten_peer_is_a_stranger() -> None:
    liveness = trio()
    liveness.forget("b")
    assert liveness.peers() == ("c",)
    assert not liveness.alive("b", 0.0)


def test_those_who_leave_or_are_suspect_themselves_vouch_for_nobody() -> None:
    liveness = trio()
    liveness.unlinked("b")
    liveness.unreachable("b", 1.0)
    liveness.left("c", 1.0)
    assert not liveness.alive("b", 1.0)


def test_an_unreachable_stranger_is_nobody_to_miss() -> None:
    liveness = Liveness("a")
    liveness.unlinked("b")
    liveness.unreachable("b", 1.0)
    assert liveness.peers() == ()
    assert liveness.silent(100.0) == ()


events = st.lists(
    st.tuples(
        st.sampled_from(["heard", "linked", "unlinked", "unreachable", "left"]),
        st.sampled_from("bcdef"),
        st.sets(st.sampled_from("abcdef")),
        st.floats(0.0, 4.0),
    ),
    max_size=40,
)


@given(events)
def test_what_is_computed_for_all_at_once_is_what_the_rule_says_of_each(
    events: list[tuple[str, str, set[str], float]],
) -> None:
    liveness, now = Liveness("a"), 0.0
    for event, peer, hears, seconds in events:
        now += seconds
        match event:
            case "heard":
                liveness.heard(peer, tuple(sorted(map(tag, hears))), now)
            case "unlinked":
                liveness.unlinked(peer)
            case _:
                getattr(liveness, event)(peer, now)
        alive = {p for p in "bcdef" if p in liveness._peers and p not in liveness._left and follows(liveness, p, now)}
        liveness._looked_at = float("-inf")
        assert liveness.living(now) == alive


def follows(liveness: Liveness, peer: str, now: float) -> bool:
    since = liveness.suspect_since(peer, now)
    return since is None or any(vouches(liveness, other, peer, since, now) for other in liveness.peers())


def vouches(liveness: Liveness, other: str, peer: str, since: float, now: float) -> bool:
    """The rule, for one witness: it is well, and says that it hears the suspect, or said so last and may again."""
    entry = liveness._peers[other]
    if other in liveness._left or liveness.suspect_since(other, now) is not None or tag(peer) not in entry.hears:
        return False
    return entry.reported >= since or (entry.linked and now - since < WITNESS_SECONDS)
