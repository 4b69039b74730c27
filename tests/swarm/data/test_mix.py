from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.data.mix import MAX_PERIOD, BadMix, Interleave, Mix, Phase, parse_mix

WEIGHTS = st.lists(st.integers(1, 60), min_size=1, max_size=7)


def mix_of(*weights: list[int], begins: tuple[int, ...] = (0,)) -> Mix:
    return parse_mix(
        "; ".join(
            (f"@{begin} " if begin else "") + ", ".join(f"s{i}:{weight}" for i, weight in enumerate(row))
            for begin, row in zip(begins, weights, strict=True)
        )
    )


class TestWriting:
    @pytest.mark.parametrize(
        ("text", "canonical"),
        [
            ("embedded", "embedded"),
            ("embedded:7", "embedded"),
            ("  b : 50 ,a:50", "a:1, b:1"),
            ("b:2,a:4;  @1000   a", "a:2, b:1; @1000 a"),
            ("a:55,\n b:10;\n\n@5 b", "a:11, b:2; @5 b"),
        ],
    )
    def test_equal_mixes_have_one_form(self, text: str, canonical: str) -> None:
        assert str(parse_mix(text)) == canonical
        assert parse_mix(canonical) == parse_mix(text)

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "'' is no source"),
            ("a,", "'' is no source"),
            ("a:0", "'a:0' is no source with a whole weight"),
            ("a:0.5", "'a:0.5' is no source"),
            ("a:", "'a:' is no source"),
            ("../a", "'../a' is no source"),
            ("a, a:2", "a occurs twice"),
            ("a; b", "'b': a later phase begins with the sample"),
            ("a; @x b", "a later phase begins"),
            ("a; @9 b; @9 a", "@9 does not begin after"),
            ("a; @0 b", "@0 does not begin after"),
            (f"a:1, b:{MAX_PERIOD}", "too fine"),
            (", ".join(f"s{i}" for i in range(49)), "at most 48 weights"),
        ],
    )
    def test_a_mistake_is_named(self, text: str, complaint: str) -> None:
        with pytest.raises(BadMix, match=complaint):
            parse_mix(text)

    def test_names_are_those_of_all_phases(self) -> None:
        assert parse_mix("a:2, b; @10 c").names == ("a", "b", "c")


class TestInterleave:
    @given(WEIGHTS)
    def test_weights_hold_over_every_prefix_to_within_one_sample(self, weights: list[int]) -> None:
        interleave, total = Interleave(mix_of(weights)), sum(weights)
        given_ = [0] * len(weights)
        for index in range(2 * total + 3):
            name, position = interleave(index)
            source = int(name[1:])
            assert position == given_[source], "positions of a source are 0, 1, 2, ..."
            given_[source] += 1
            for count, weight in zip(given_, weights, strict=True):
                assert abs(count - Fraction((index + 1) * weight, total)) < 1

    @given(WEIGHTS, WEIGHTS, st.integers(1, 300), st.integers(1, 200))
    def test_a_change_of_weights_neither_repeats_nor_skips(
        self, before: list[int], after: list[int], begin: int, more: int
    ) -> None:
        interleave = Interleave(mix_of(before, after, begins=(0, begin)))
        given_: dict[str, int] = {}
        since: dict[str, int] = {}
        for index in range(begin + more):
            name, position = interleave(index)
            assert position == given_.get(name, 0)
            given_[name] = position + 1
            if index >= begin:
                since[name] = since.get(name, 0) + 1
                for source, weight in enumerate(after):
                    share = Fraction((index + 1 - begin) * weight, sum(after))
                    assert abs(since.get(f"s{source}", 0) - share) < 1

    def test_any_index_may_be_asked_for_at_once(self) -> None:
        interleave = Interleave(parse_mix("a:55, b:10, c:20, d:10, e:5; @100000000 a:80, b:10, c:10"))
        positions = [interleave(index) for index in range(10**12, 10**12 + 10)]
        assert sorted(name for name, _ in positions) == ["a"] * 8 + ["b", "c"]
        assert dict(positions)["c"] == 20_000_000 + (10**12 - 10**8) // 10

    def test_the_schedule_never_changes(self) -> None:
        interleave = Interleave(parse_mix("a:55, b:10, c:20, d:10, e:5"))
        assert "".join(interleave(index)[0] for index in range(20)) == GOLDEN_PERIOD

    def test_the_finest_weights_take_a_moment(self) -> None:
        began = time.process_time()
        Interleave(mix_of([MAX_PERIOD - 3, 1, 1, 1]))
        assert time.process_time() - began < 5


def test_a_phase_is_reduced() -> None:
    assert parse_mix("a:10, b:20").phases == (Phase(0, (("a", 1), ("b", 2))),)


GOLDEN_PERIOD = "aacabacadaacabacadae"
