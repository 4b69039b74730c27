"""What chunks need, and the verdicts on what came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.holdings import AHEAD, EMPTY, NOTHING_HELD, Held, Holdings, Need, Source, Target, choose_target

A, B, ROOT = b"a" * 32, b"b" * 32, b"r" * 32


def holdings(*rounds: int, target: int = 5, limit: int = 3, roots: dict[int, bytes] | None = None) -> Holdings:
    found = Holdings([Held(round, A) if round != EMPTY else NOTHING_HELD for round in rounds], limit)
    found.aim(Target(target, b"", ROOT), roots or {})
    return found


def test_the_target_is_what_most_report() -> None:
    assert choose_target([]) is None
    a, b, c = (Source(name, 4, b"h", b"r") for name in "abc")
    newer = [Source(name, 5, b"i", b"s") for name in "de"]
    assert choose_target([a, b, c, *newer]) == Target(4, b"h", b"r")
    assert choose_target([a, b, *newer]) == Target(5, b"i", b"s"), "of equals the newest"
    liar = Source("f", 1 << 40, b"x", b"y")
    assert choose_target([a, b, liar]) == Target(4, b"h", b"r")


@given(st.permutations([Source(str(i), i % 3, bytes([i % 2]), b"") for i in range(7)]))
def test_the_target_does_not_depend_on_the_order(sources: list[Source]) -> None:
    assert choose_target(sources) == choose_target(sorted(sources, key=lambda source: source.peer))


def test_needs() -> None:
    found = holdings(EMPTY, 1, 2, 4, 5, 6)
    needs = [Need.CHUNK, Need.CHUNK, Need.MEAN, Need.MEAN, Need.VERDICT, Need.VERDICT]
    assert [found.need(index) for index in range(6)] == needs
    found.learn(5, [A] * 6)
    assert found.need(4) is Need.NOTHING
    found.gone.add(4)
    assert [found.need(2), found.need(3)] == [Need.CHUNK, Need.MEAN]


def test_wanted_manifests_are_those_that_decide() -> None:
    roots = dict.fromkeys(range(5), ROOT)
    assert holdings(EMPTY, EMPTY, roots=roots).wanted_manifests() == [5]
    assert holdings(5, 3, roots=roots).wanted_manifests() == [5, 3, 4]
    assert holdings(5, 1, roots=roots).wanted_manifests() == [5], "too far behind for means"
    assert holdings(5, 3, roots={3: ROOT}).wanted_manifests() == [5, 3], "4 could not be checked"
    known = holdings(5, 3, roots=roots)
    known.learn(5, [A, A])
    assert known.wanted_manifests() == [3, 4]


def test_a_manifest_condemns_what_differs() -> None:
    found = Holdings([Held(5, A, "honest"), Held(5, B, "liar"), Held(5, B), Held(4, B, "other")], 3)
    found.aim(Target(5, b"", ROOT), {})
    assert found.learn(5, [A] * 4) == [("liar", "sent false bytes for chunk 1 of round 5")]
    assert found.held == [Held(5, A, "honest"), NOTHING_HELD, NOTHING_HELD, Held(4, B, "other")]


def test_verdicts_on_chunks() -> None:
    found = holdings(EMPTY)
    assert found.judge_chunk(0, 5, A, 5) is None
    found.learn(5, [A])
    assert found.judge_chunk(0, 5, A, 5) is None
    assert found.judge_chunk(0, 5, B, 5) == "sent false bytes for chunk 0 of round 5"
    assert found.judge_chunk(0, 5 + AHEAD, B, 5) is None, "it may be ahead of the news"
    assert "nobody has reached" in (found.judge_chunk(0, 6 + AHEAD, B, 5) or "")
    assert found.judge_chunk(0, 1, B, 1) is None, "of no use any more, but that is not its fault"
    assert found.judge_chunk(0, 1, B, 2) == "sent a chunk of round 1 after it had reported round 2"


def test_verdicts_on_replays() -> None:
    found = holdings(4, roots={4: ROOT})
    assert found.judge_replay(0, 5, B) == (True, False), "no manifest yet"
    found.learn(5, [A])
    assert found.judge_replay(0, 5, A) == (True, False)
    found.learn(4, [A])
    assert found.judge_replay(0, 5, B) == (False, True), "the base was true, so the mean is false"
    del found.manifests[4]
    assert found.judge_replay(0, 5, B) == (False, False), "either may be false"
    assert found.held == [NOTHING_HELD]
    assert found.judge_replay(0, 5, A) == (False, False), "the base is gone"


def test_blame_is_laid_only_where_it_belongs() -> None:
    found = Holdings([Held(4, A, "x")], 3)
    found.aim(Target(5, b"", ROOT), {4: ROOT})
    assert found.replay_sender(0, "x") == "x"
    assert found.replay_sender(0, "y") == ""
    found.learn(4, [A])
    assert found.replay_sender(0, "y") == "y"


def test_news_overrule_what_was_believed() -> None:
    found = holdings(5, 5)
    found.learn(5, [A, A])
    found.aim(Target(6, b"", B), {5: ROOT})
    assert 5 in found.manifests, "borne out"
    found.aim(Target(6, b"", B), {5: A})
    assert found.manifests == {}
    found.aim(Target(20, b"", B), {})
    assert found.roots == {20: B}, "old rounds are forgotten"


def test_leaving_a_history() -> None:
    found = holdings(2, 5, roots={4: ROOT})
    found.learn(5, [A, A])
    found.leave_history(3)
    assert found.held == [Held(2, A), NOTHING_HELD]
    assert found.manifests == {}
    assert found.roots == {}
