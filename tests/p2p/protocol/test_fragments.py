"""Rounds that average one fragment of the vector each: which one, with what weight, and what records prove of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import ledger
from p2p.protocol.audit import Audit
from p2p.protocol.chain import InvalidRecord
from p2p.protocol.fragments import Fragments, earlier_tokens
from p2p.protocol.messages import Ready, Record, SignedRecord
from p2p.protocol.plan import BadPlan, Rules, check, check_draft, fresh, objection_to
from tests.p2p.protocol.histories import QUOTA, TOKENS, head_of, signed
from tests.p2p.protocol.records import FINGERPRINT, peer, verify

RULES = Rules(FINGERPRINT, 4 * 1024 - 7, "int8", 1024, quota=QUOTA, cuts=(1024, 3 * 1024))

bounds = st.lists(st.integers(0, 50), min_size=1, max_size=8).map(lambda cuts: (0, *sorted(cuts)))
turns = st.lists(
    st.dictionaries(st.integers(0, 4), st.tuples(st.integers(0, QUOTA), st.integers(0, 2)), min_size=1, max_size=4),
    min_size=1,
    max_size=9,
)
"""For each round who takes part: samples used at most, and earlier rounds counted at most."""


@given(bounds, st.integers(0, 1000))
def test_successive_rounds_average_every_value_once(cuts: tuple[int, ...], first: int) -> None:
    fragments = Fragments(cuts)
    rounds = range(first, first + len(fragments))
    averaged = sorted(value for round in rounds for value in range(*fragments.span(round)))
    assert averaged == list(range(fragments.count))
    assert [fragments.size(round) for round in rounds] == [stop - start for start, stop in map(fragments.span, rounds)]


@given(bounds, st.integers(0, 30), st.integers(0, 50), st.integers(0, 50))
def test_a_round_touches_what_a_stretch_has_in_common_with_its_fragment(
    cuts: tuple[int, ...], round: int, start: int, stop: int
) -> None:
    fragments = Fragments(cuts)
    touched = set(range(*fragments.touched(round, start, stop)))
    assert touched == set(range(*fragments.span(round))) & set(range(start, stop))


@given(st.integers(1, 300), st.integers(1, 32), st.integers(1, 7))
def test_equal_fragments_are_whole_blocks_of_which_they_have_as_many(count: int, fragments: int, block: int) -> None:
    cut = Fragments.equal(count, fragments, block)
    assert (len(cut), cut.count) == (fragments, count)
    assert all(bound % block == 0 for bound in cut.bounds[:-1])
    blocks = [-(-cut.size(index) // block) for index in range(fragments)]
    assert max(blocks) - min(blocks) <= 1


def test_a_member_counts_all_rounds_since_its_fragment_was_averaged_or_the_newest_of_them() -> None:
    assert earlier_tokens(()) == {0}
    assert earlier_tokens((30, 0, 20)) == {0, 20, 50}


def run(history: list[dict[int, tuple[int, int]]]) -> list[SignedRecord]:
    """The chain of these rounds, each planned, and checked by every member as nodes do it."""
    chain: list[SignedRecord] = []
    for turn in history:
        head = head_of(chain)
        reports = {}
        for index, (most, reach) in turn.items():
            used, _rest = ledger.take(ledger.assigned_to(head.ledger, peer(index)), most)
            trained = ledger.trained_by(head.ledger, peer(index))
            earlier = sum(trained[len(trained) - min(reach, len(trained)) :])
            tokens = TOKENS * ledger.size(used)
            reports[peer(index)] = Ready(round=head.height + 1, tokens=tokens, used=used, earlier=earlier)
        root = root_of(chain)
        plan = fresh(RULES, head, head.ballot(0, 0), reports, root, list(reports))
        for name, report in reports.items():
            assert not objection_to(head, name, report)
            check(RULES, head, plan, name, report, root)
        chain.append(signed(plan.draft.with_digests((b"d" * 32,) * len(plan.draft.segments))))
    return chain


def root_of(chain: list[SignedRecord]) -> bytes:
    """One that moves with every round that has weight."""
    return sum(signed.record.steps for signed in chain).to_bytes(32)


def audited(chain: list[SignedRecord]) -> Audit:
    audit = Audit.genesis(FINGERPRINT)
    for record in chain:
        audit = audit.extended(record, verify)
    return audit


@given(turns)
def test_what_members_agree_on_is_proved_by_the_records(history: list[dict[int, tuple[int, int]]]) -> None:
    chain = run(history)
    audit = audited(chain)
    assert audit.tip.tokens_total == sum(TOKENS * ledger.size(seat.used) for s in chain for seat in s.record.seats)
    for entry in chain:
        record = entry.record
        assert record.fragment == record.round % 3
        assert not record.steps or record.segments[-1].stop == (1024, 2048, 1017)[record.fragment]


def full(rounds: int) -> list[SignedRecord]:
    """Two members that train on all they are given."""
    return run([{0: (QUOTA, 2), 1: (QUOTA, 2)}] * rounds)


def test_the_weight_is_what_was_trained_on_since_the_fragment_was_averaged_last() -> None:
    weights = [entry.record.weights for entry in full(6)]
    whole = QUOTA * TOKENS
    assert weights == [(whole * rounds,) * 2 for rounds in (0, 1, 2, 3, 3, 3)]


def test_tokens_that_nobody_trained_on_are_found_by_members_and_by_the_audit() -> None:
    chain = full(5)
    seats = chain[4].record.seats
    for earlier in (QUOTA * TOKENS - 1, 3 * QUOTA * TOKENS):
        liar = seats[0].model_copy(update={"earlier": earlier})
        false = chain[4].record.model_copy(update={"seats": (liar, *seats[1:])})
        with pytest.raises(BadPlan, match="earlier rounds that it did not train on"):
            check_draft(RULES, head_of(chain[:4]), false)
        with pytest.raises(InvalidRecord, match=f"counts {earlier:,} tokens of earlier rounds"):
            audited([*chain[:4], signed(false)])
        report = Ready(round=4, tokens=liar.tokens, used=liar.used, earlier=earlier)
        assert "earlier rounds" in objection_to(head_of(chain[:4]), liar.peer, report)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"fragments": 2}, "in 2 fragments instead of 3"),
        ({"fragments": 1}, "in 1 fragments instead of 3"),
    ],
)
def test_a_round_cannot_choose_its_fragments(change: dict[str, int], complaint: str) -> None:
    chain = full(5)
    false = chain[4].record.model_copy(update=change)
    with pytest.raises(BadPlan, match=complaint):
        check_draft(RULES, head_of(chain[:4]), false)
    with pytest.raises(InvalidRecord):
        audited([*chain[:4], signed(false)])


def test_a_fragment_keeps_its_size() -> None:
    chain = full(6)  # round 5 averages the fragment of round 2
    false = longer(chain[5].record)
    with pytest.raises(InvalidRecord, match="do not cover the fragment"):
        audited([*chain[:5], signed(false)])


def longer(record: Record) -> Record:
    last = record.segments[-1]
    stretched = last.model_copy(update={"stop": last.stop + 1024})
    return record.model_copy(update={"segments": (*record.segments[:-1], stretched)})
