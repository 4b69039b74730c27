"""Reaching an agreed head from any chain of our own; whoever cannot show the way to it changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.chain import InvalidRecord, MemoryChain, record_hash
from p2p.protocol.chain_sync import ChainSync, knows
from p2p.protocol.holdings import Target
from p2p.protocol.messages import SignedRecord
from tests.p2p.protocol.records import FINGERPRINT, history, next_record, signed


def branch(shared: int, more: int, tokens: int) -> MemoryChain:
    """`shared` records that all have, then `more` with other tokens."""
    chain = MemoryChain(FINGERPRINT, history(shared))
    for _ in range(more):
        chain.append(signed(next_record(chain.tip, tokens=tokens)))
    return chain


def target_of(chain: MemoryChain) -> Target:
    return Target(chain.tip.height, chain.tip.head, b"")


def follow(sync: ChainSync, donor: MemoryChain, limit: int = 64) -> int:
    """Questions that it took."""
    questions = 0
    while not sync.done:
        question = sync.question()
        assert question.start >= 0
        sync.take(donor.records(question.start, min(limit, question.limit)))
        questions += 1
        assert questions < 1000
    return questions


@given(
    shared=st.integers(0, 12),
    ours=st.integers(0, 12),
    theirs=st.integers(0, 12),
    limit=st.integers(1, 64),
)
def test_any_fork_is_found(shared: int, ours: int, theirs: int, limit: int) -> None:
    mine, donor = branch(shared, ours, 5), branch(shared, theirs, 7)
    sync = ChainSync(mine, target_of(donor))
    follow(sync, donor, limit)
    assert knows(mine, donor.tip.height, donor.tip.head)
    if theirs:
        assert mine.tip == donor.tip
        assert sync.forked == (ours > 0)
        if sync.forked:
            assert sync.fork == shared - 1
    else:
        assert mine.tip == branch(shared, ours, 5).tip, "ours goes on where theirs ends"


def test_a_long_history_takes_few_questions() -> None:
    donor = branch(200, 0, 0)
    assert follow(ChainSync(MemoryChain(FINGERPRINT), target_of(donor)), donor) == 4
    lone = branch(199, 1, 5)
    assert follow(ChainSync(lone, target_of(donor)), donor) <= 3


def bad_answers(donor: MemoryChain) -> dict[str, list[SignedRecord]]:
    records = list(donor.records(0, 64))
    return {
        "other records": records[1:],
        "miscounts": [signed(records[0].record.model_copy(update={"tokens_total": 5}))],
        "does not begin with this run": [signed(records[0].record.model_copy(update={"previous": bytes(32)}))],
        "does not lead to the head": list(branch(0, 6, 9).records(0, 64)),
    }


@pytest.mark.parametrize("reason", list(bad_answers(branch(6, 0, 0))))
def test_a_false_answer_changes_nothing(reason: str) -> None:
    donor, mine = branch(6, 0, 0), MemoryChain(FINGERPRINT)
    before = mine.tip
    sync = ChainSync(mine, target_of(donor))
    with pytest.raises(InvalidRecord, match=reason):
        sync.take(bad_answers(donor)[reason])
    sync.undo(lied=True)
    assert mine.tip == before


def test_a_false_fork_is_put_back() -> None:
    mine, liar = branch(3, 4, 5), branch(3, 5, 9)
    before = [record_hash(one.record) for one in mine.records(0, 64)]
    sync = ChainSync(mine, Target(7, bytes(32), b""))
    with pytest.raises(InvalidRecord, match="does not lead"):
        follow(sync, liar)
    assert sync.forked
    sync.undo(lied=True)
    assert [record_hash(one.record) for one in mine.records(0, 64)] == before


def test_a_donor_that_dies_leaves_what_it_added() -> None:
    mine, donor = MemoryChain(FINGERPRINT), branch(10, 0, 0)
    sync = ChainSync(mine, target_of(donor))
    sync.take(donor.records(0, 4))
    sync.undo(lied=False)
    assert mine.tip.height == 3
    sync = ChainSync(mine, target_of(donor))
    with pytest.raises(LookupError, match="round 4"):
        sync.take(())
    follow(sync, donor)
    sync.undo(lied=True)
    assert mine.tip == donor.tip, "what was reached stays"


def test_commits_that_come_meanwhile_are_kept() -> None:
    mine, donor = MemoryChain(FINGERPRINT), branch(10, 0, 0)
    sync = ChainSync(mine, target_of(donor))
    sync.take(donor.records(0, 4))
    mine.append(donor.record(4))
    sync.undo(lied=True)
    assert mine.tip.height == 4
    follow(sync, donor)
    assert mine.tip == donor.tip


def test_a_head_before_the_first_record_is_this_run_s_or_a_lie() -> None:
    sync = ChainSync(MemoryChain(FINGERPRINT), Target(-1, b"another run".ljust(32), b""))
    with pytest.raises(InvalidRecord, match="before the first record"):
        sync.question()
