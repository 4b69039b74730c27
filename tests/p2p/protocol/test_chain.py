"""The record chain: the right record is taken, every wrong one is refused with its reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.chain import (
    InvalidRecord,
    MemoryChain,
    Tip,
    check_signatures,
    genesis_hash,
    record_hash,
    state_root_after,
    wire_hash,
)
from p2p.protocol.messages import Record, SignedRecord
from tests.p2p.protocol.records import FINGERPRINT, history, next_record, peer, sign, signed, verify

OTHER = bytes(32)


def refused(tip: Tip, record: Record, reason: str) -> None:
    with pytest.raises(InvalidRecord, match=reason):
        tip.extended(record)


def test_hashes_are_32_bytes_and_depend_on_everything() -> None:
    tip = Tip.genesis(FINGERPRINT)
    record = next_record(tip)
    changed = record.model_copy(update={"tokens_total": record.tokens_total + 1})
    assert len(record_hash(record)) == len(genesis_hash(FINGERPRINT)) == 32
    assert len({record_hash(record), record_hash(changed), genesis_hash(FINGERPRINT), genesis_hash(OTHER)}) == 4


def test_hash_survives_the_wire() -> None:
    record = next_record(Tip.genesis(FINGERPRINT))
    assert wire_hash(record.to_wire()) == record_hash(record)


@given(length=st.integers(0, 6), members=st.integers(1, 5), tokens=st.sampled_from([0, 1, 1000]))
def test_a_proper_history_is_accepted_whole(length: int, members: int, tokens: int) -> None:
    records = history(length, members, tokens)
    chain = MemoryChain(FINGERPRINT, records)
    assert chain.tip.height == length - 1
    assert chain.tip.tokens_total == length * members * tokens
    for round, one in enumerate(records):
        check_signatures(one, verify)
        assert chain.hash_at(round) == record_hash(one.record)
        assert chain.record(round) == one
    assert chain.hash_at(-1) == genesis_hash(FINGERPRINT)


@given(order=st.permutations(range(4)))
def test_only_the_right_order_is_accepted(order: list[int]) -> None:
    records = history(4)
    if order == sorted(order):
        MemoryChain(FINGERPRINT, records)
    else:
        with pytest.raises(InvalidRecord):
            MemoryChain(FINGERPRINT, [records[i] for i in order])


def test_wrong_records_are_refused_with_their_reason() -> None:
    tip = Tip.genesis(FINGERPRINT).extended(next_record(Tip.genesis(FINGERPRINT)))
    good = next_record(tip)
    tip.extended(good)
    refused(tip, good.model_copy(update={"fingerprint": OTHER}), "another run")
    refused(tip, good.model_copy(update={"round": 2}), "round 2 after round 0")
    refused(tip, good.model_copy(update={"round": 0}), "round 0 after round 0")
    refused(tip, good.model_copy(update={"previous": OTHER}), "another history")
    refused(tip, good.model_copy(update={"tokens_total": 1}), "miscounts")
    refused(tip, good.model_copy(update={"ballot": good.ballot.model_copy(update={"round": 0})}), "ballot of round 0")
    refused(tip, good.with_digests((b"", b"d" * 32, b"d" * 32)), "without a digest")
    strange = tuple(segment.model_copy(update={"contributors": b"\x0f"}) for segment in good.segments)
    refused(tip, good.model_copy(update={"segments": strange}), "contributors without a seat")
    refused(tip, good.model_copy(update={"segments": ()}), "do not tile")
    refused(tip, good.model_copy(update={"segments": good.segments[::-1]}), "do not tile")
    gone = tuple(seat.model_copy(update={"present": False}) for seat in good.seats)
    refused(tip, good.model_copy(update={"seats": gone}), "nobody present")
    twice = (good.seats[0], good.seats[0], good.seats[2])
    refused(tip, good.model_copy(update={"seats": twice}), "seats a peer twice")
    weightless = next_record(tip, tokens=0)
    tip.extended(weightless)
    refused(tip, weightless.model_copy(update={"segments": good.segments}), "no weight but a mean")


def test_signatures() -> None:
    record = next_record(Tip.genesis(FINGERPRINT), members=3)
    whole = signed(record)
    check_signatures(whole, verify)
    check_signatures(signed(record, signers=1), verify)
    first, second, _ = whole.signatures
    bad = {
        "not signed": (),
        "belong to no seat": (first, first),
        "forged signature": (first, (1, first[1])),
    }
    for reason, signatures in bad.items():
        with pytest.raises(InvalidRecord, match=reason):
            check_signatures(SignedRecord(record=record, signatures=signatures), verify)
    with pytest.raises(InvalidRecord, match="belong to no seat"):
        check_signatures(SignedRecord(record=record, signatures=((3, second[1]),)), verify)
    stranger = sign(peer(9), b"swarm-record", record_hash(record))
    with pytest.raises(InvalidRecord, match=f"forged signature of {peer(2)}"):
        check_signatures(SignedRecord(record=record, signatures=(first, (2, stranger))), verify)


@given(cut=st.integers(-1, 4))
def test_truncate_forgets_and_another_history_may_follow(cut: int) -> None:
    chain = MemoryChain(FINGERPRINT, history(5))
    chain.truncate(cut)
    assert chain.tip.height == cut
    chain.append(signed(next_record(chain.tip, tokens=7)))
    assert chain.tip.height == cut + 1


def test_records_are_limited_by_number_and_by_bytes() -> None:
    records = history(8)
    chain = MemoryChain(FINGERPRINT, records)
    assert chain.records(0, 64) == tuple(records)
    assert chain.records(6, 64) == tuple(records[6:])
    assert chain.records(8, 64) == ()
    assert chain.records(2, 3) == tuple(records[2:5])
    assert chain.records(0, 64, max_bytes=1) == tuple(records[:1])


def test_the_next_record_vouches_for_a_state() -> None:
    chain = MemoryChain(FINGERPRINT)
    for round in range(3):
        chain.append(signed(next_record(chain.tip, root=bytes([round]) * 32)))
    assert state_root_after(chain, -1) == bytes(32)
    assert state_root_after(chain, 1) == bytes([2]) * 32
    assert state_root_after(chain, 2) == b""
