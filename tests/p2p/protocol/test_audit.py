"""Whatever the history of membership, an honest chain audits clean; whatever is changed in one, the audit finds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from p2p.protocol import bitmap, ledger
from p2p.protocol.audit import Audit, assigned_samples, shown
from p2p.protocol.chain import SIGNATURE_DOMAIN, InvalidRecord, record_hash
from p2p.protocol.messages import Assignment, Ledger, Record, SignedRecord
from p2p.protocol.model import BadMessage, Range, unpack
from tests.p2p.protocol.histories import QUOTA, TOKENS, Turn, extend, follow, head_of, record_of, run, signed, turns
from tests.p2p.protocol.records import FINGERPRINT, peer, sign, verify

FIVE: list[Turn] = [[(member, QUOTA) for member in range(5)]] * 4


def audited(chain: Sequence[SignedRecord]) -> Audit:
    audit = Audit.genesis(FINGERPRINT)
    for one in chain:
        audit = audit.extended(one, verify)
    return audit


def points(spans: Sequence[Range]) -> set[int]:
    return {sample for start, stop in spans for sample in range(start, stop)}


# --- honest chains ---


@given(turns)
def test_any_history_of_membership_audits_clean(history: list[Turn]) -> None:
    chain = run(history)
    audit = audited(chain)
    used = [span for one in chain for seat in one.record.seats for span in seat.used]
    assert points(audit.committed) == points(used)
    assert ledger.size(audit.committed) == ledger.size(used)
    assert audit.tip.tokens_total == TOKENS * ledger.size(used)
    assert audit.seats == sum(len(one.record.seats) for one in chain)
    assert audit.signatures == sum(len(one.record.voters) for one in chain)
    spoken_for = points(audit.ledger.free) | points(assigned_samples(audit.ledger))
    assert points(audit.committed) == set(range(audit.ledger.cursor)) - spoken_for
    assert audit.quota == QUOTA


def test_one_signature_is_enough_and_is_counted() -> None:
    chain = run(FIVE)
    last = chain[-1]
    audit = audited([*chain[:-1], SignedRecord(record=last.record, signatures=last.signatures[1:2])])
    assert (audit.signatures, audit.seats) == (16, 20)


# --- bytes that somebody changed afterwards ---


def leaves(value: Any, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    if isinstance(value, tuple):
        return [found for index, item in enumerate(value) for found in leaves(item, (*path, index))]
    return [path]


def replaced(value: Any, path: tuple[int, ...], by: Callable[[Any], Any]) -> Any:
    if not path:
        return by(value)
    return tuple(replaced(item, path[1:], by) if i == path[0] else item for i, item in enumerate(value))


def another(value: Any) -> Any:
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:] if value else b"\x00"
    return value + ("x" if isinstance(value, str) else 1)


@given(turns, st.data())
def test_any_value_that_is_changed_in_a_record_is_found(history: list[Turn], data: st.DataObject) -> None:
    chain = run(history)
    place = data.draw(st.integers(0, len(chain) - 1))
    wire = unpack(msgpack.packb(chain[place].to_wire()))
    path = data.draw(st.sampled_from(leaves(wire)))
    try:
        chain[place] = SignedRecord.from_wire(replaced(wire, path, another))
    except BadMessage:
        return  # found sooner: it is no record any more
    with pytest.raises(InvalidRecord):
        audited(chain[: place + 1])


@given(turns, st.data())
def test_a_record_that_is_left_out_repeated_or_moved_is_found(history: list[Turn], data: st.DataObject) -> None:
    chain = run(history)
    place, other = (data.draw(st.integers(0, len(chain) - 1)) for _ in range(2))
    assume(place != other)
    changed = data.draw(
        st.sampled_from(
            [
                chain[: min(place, other)] + chain[min(place, other) + 1 :],
                [*chain[:place], chain[place], *chain[place:]],
                [*chain[:place], chain[other], *chain[place + 1 :]],
            ]
        )
    )
    with pytest.raises(InvalidRecord):
        audited(changed)


# --- members who signed, all of them, what does not follow ---


def conspired(change: Callable[[Record], Record]) -> list[SignedRecord]:
    """A run whose members all signed a changed record in round 4, and went on from it."""
    chain = run(FIVE)
    honest = follow(head_of(chain), [(0, 8), (1, 3), (2, 2, True), (5, 0)])
    return extend([*chain, signed(change(honest))], FIVE[:1])


def settled(record: Record, **changes: object) -> Record:
    return record.model_copy(update={"ledger": record.ledger.model_copy(update=changes)})


def seated(record: Record, rank: int, **changes: object) -> Record:
    seats = list(record.seats)
    seats[rank] = seats[rank].model_copy(update=changes)
    tokens = record.tokens_total - record.seats[rank].tokens + seats[rank].tokens
    return record.model_copy(update={"seats": tuple(seats), "tokens_total": tokens})


def contributed(record: Record, place: int, *ranks: int) -> Record:
    segments = list(record.segments)
    contributors = bitmap.pack(ranks, len(record.seats))
    segments[place] = segments[place].model_copy(update={"contributors": contributors})
    return record.model_copy(update={"segments": tuple(segments)})


CONSPIRACIES: dict[str, tuple[Callable[[Record], Record], str]] = {
    "a sample is committed again": (
        lambda record: seated(record, 0, used=((0, 8),)),
        rf"samples \[0, 8\) are committed a second time, by {peer(0)}",
    ),
    "two commit the same": (
        lambda record: seated(record, 1, used=record.seats[0].used),
        rf"samples \[120, 128\) are committed a second time, by {peer(0)}, {peer(1)}",
    ),
    "another's samples": (
        lambda record: seated(record, 1, used=((152, 155),)),
        "given out again after they were committed|neither committed nor free",
    ),
    "a newcomer has weight": (lambda record: seated(record, 3, tokens=10), f"{peer(5)} has weight, but was not in"),
    "a member is left out of the mean": (lambda record: contributed(record, 1, 0), "a segment misses a contributor"),
    "the lost one was never in it": (lambda record: contributed(record, 0, 0, 1), "contributed nothing"),
    "a newcomer is in the mean": (lambda record: contributed(record, 1, 0, 1, 3), "a segment misses a contributor"),
    "another codec": (lambda record: record.model_copy(update={"codec": "fp32"}), "codec 'fp32' instead of 'int8'"),
    "a longer vector": (
        lambda record: record.model_copy(
            update={"segments": (record.segments[0], record.segments[1].model_copy(update={"stop": 4096}))}
        ),
        "do not cover the fragment",
    ),
    "seats out of order": (
        lambda record: record.model_copy(update={"seats": (record.seats[1], record.seats[0], *record.seats[2:])}),
        "follows|out of order",
    ),
    "weight from nowhere": (lambda record: seated(record, 0, used=()), f"{peer(0)} has tokens, but names no sample"),
    "samples are lost": (lambda record: settled(record, free=record.ledger.free[1:]), r"samples \[.*are neither"),
    "the cursor runs ahead": (lambda record: settled(record, cursor=record.ledger.cursor + 5), "are neither"),
    "the cursor stays": (lambda record: settled(record, cursor=record.ledger.cursor - 1), "beyond the cursor 159"),
    "committed samples are free again": (
        lambda record: settled(record, free=((0, 4), *record.ledger.free)),
        r"samples \[0, 4\) are given out again",
    ),
    "two are given the same": (
        lambda record: settled(
            record,
            assigned=tuple(
                Assignment(peer=a.peer, ranges=record.ledger.assigned[0].ranges) for a in record.ledger.assigned
            ),
        ),
        "are given out twice",
    ),
    "members swap what they were given": (
        lambda record: settled(
            record,
            assigned=tuple(
                Assignment(peer=a.peer, ranges=b.ranges)
                for a, b in zip(record.ledger.assigned, reversed(record.ledger.assigned), strict=True)
            ),
        ),
        f"{peer(0)} is assigned .* follows",
    ),
    "the next view is in another order": (
        lambda record: settled(record, assigned=record.ledger.assigned[::-1]),
        f"next view is {peer(5)}, .* follows",
    ),
    "more for one": (
        lambda record: settled(
            record,
            cursor=record.ledger.cursor + 1,
            assigned=(
                Assignment(
                    peer=peer(0),
                    ranges=(*record.ledger.assigned[0].ranges, (record.ledger.cursor, record.ledger.cursor + 1)),
                ),
                *record.ledger.assigned[1:],
            ),
        ),
        "members are given 8 and 9 samples, not 8 each",
    ),
    "fresh samples before free ones": (
        lambda record: settled(record, **moved_on(record.ledger)),
        "follows",
    ),
    "tokens from nowhere": (
        lambda record: record.model_copy(update={"tokens_total": record.tokens_total + 1}),
        "miscounts its tokens",
    ),
    "no signature": (lambda record: record, "not signed"),
    "a signature of one who was lost": (lambda record: record, f"{peer(2)} has signed, but was lost on the way"),
}


def moved_on(state: Ledger) -> dict[str, object]:
    """All free samples stay free, and the last member gets fresh ones for those it had of them."""
    last = state.assigned[-1]
    fresh = (state.cursor, state.cursor + ledger.size(last.ranges))
    free = ledger.merged((*state.free, *last.ranges))
    return {
        "cursor": fresh[1],
        "free": free,
        "assigned": (*state.assigned[:-1], Assignment(peer=last.peer, ranges=(fresh,))),
    }


@pytest.mark.parametrize("name", CONSPIRACIES)
def test_what_all_members_signed_is_found_all_the_same(name: str) -> None:
    change, complaint = CONSPIRACIES[name]
    chain = conspired(change)
    if name == "no signature":
        chain[4] = SignedRecord(record=chain[4].record, signatures=())
    if name == "a signature of one who was lost":
        vote = (2, sign(peer(2), SIGNATURE_DOMAIN, record_hash(chain[4].record)))
        chain[4] = SignedRecord(record=chain[4].record, signatures=(*chain[4].signatures, vote))
    with pytest.raises(InvalidRecord, match=f"round 4.* {complaint}|round 4.*{complaint}"):
        audited(chain)


def test_a_round_without_weight_leaves_the_state() -> None:
    chain = extend([], [[(0, 0)], [(0, 0)]])
    audited(chain)
    moved = record_of(head_of(chain[:1]), chain[1].record.seats, root=b"m" * 32)
    with pytest.raises(InvalidRecord, match="round 1: it starts from another state than the round before"):
        audited([chain[0], signed(moved)])


def test_many_ranges_are_shown_in_short() -> None:
    assert shown(()) == "nothing"
    assert shown(((0, 4), (8, 9))) == "[0, 4), [8, 9)"
    assert shown(tuple((i, i + 1) for i in range(0, 20, 2)), most=2) == "[0, 1), [2, 3) and 8 ranges more"
