"""Bytes from the network become a valid message or a BadMessage with a reason; nothing else."""

from __future__ import annotations

import itertools
from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import messages
from p2p.protocol.ballot import Ballot
from p2p.protocol.message import Message
from p2p.protocol.messages import MESSAGES, Commit, Mean, Promise, Ready, SignedRecord, Status, Vote, decode, encode
from p2p.protocol.model import MAX_MESSAGE_BYTES, BadMessage
from tests.p2p.protocol.test_plan import first, formed
from tests.sim.virtual_swarm import peer_name

BALLOT = Ballot(round=3, attempt=1, rank=2, lineage=0)
STATUS = Status(
    sequence=7,
    height=2,
    head=b"h" * 32,
    tokens_total=123,
    state_root=b"",
    phase="voted",
    inner_step=4,
    moved=5,
    promised=BALLOT,
    ready=Ready(round=3, tokens=80, used=((0, 4), (9, 12))),
    vote=Vote(ballot=BALLOT, record_hash=b"v" * 32, signature=b"s" * 64),
    hears=(7, 1 << 31),
    silent=((peer_name(1), 3.5),),
    waiting_on=(peer_name(2),),
    rates=(12_500_000, 62_500_000),
)
PLAN = first(formed(), peer_name(0), peer_name(1))
SIGNED = SignedRecord(record=PLAN.draft, signatures=((0, b"s" * 64),))
PROMISE = Promise(
    ballot=BALLOT, ready=STATUS.ready, plan=PLAN, means=(3, 1), parts=((), (2, 2)), vote=STATUS.vote, voted=PLAN.draft
)


EXAMPLES = [STATUS, PLAN, PROMISE, Commit(signed=SIGNED), Mean(ballot=BALLOT, start=0, stop=1024)]


@pytest.mark.parametrize("message", EXAMPLES)
def test_a_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message
    assert decode(memoryview(encode(message))) == message


def test_optional_parts_may_be_missing() -> None:
    bare = STATUS.model_copy(update={"promised": None, "ready": None, "vote": None})
    assert decode(encode(bare)) == bare


def test_every_kind_is_known_by_its_name() -> None:
    kinds = [cls for cls in vars(messages).values() if isinstance(cls, type) and issubclass(cls, Message)]
    assert {cls.KIND: cls for cls in kinds if cls is not Message} == MESSAGES


def test_a_heartbeat_is_small() -> None:
    assert len(encode(STATUS)) < 400


def corrupted(**fields: object) -> bytes:
    values = STATUS.to_wire()
    names = list(Status.model_fields)
    for name, value in fields.items():
        values[names.index(name)] = value
    return bytes(msgpack.packb([Status.KIND, *values]))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (b"\x91" * 5000, "not msgpack"),
        (b"\x00" * (MAX_MESSAGE_BYTES + 1), "exceeds the limit"),
        (bytes(msgpack.packb({"kind": "status"})), "not an array"),
        (bytes(msgpack.packb([])), "not an array"),
        (bytes(msgpack.packb([3])), "not an array"),
        (bytes(msgpack.packb(["status"])), "expected 15 fields"),
        (bytes(msgpack.packb(["no-such-kind"])), "unknown kind"),
        (corrupted(height="2"), "Status.height"),
        (corrupted(height=-2), "Status.height"),
        (corrupted(height=True), "Status.height"),
        (corrupted(head=b"short"), "Status.head"),
        (corrupted(phase="asleep"), "Status.phase"),
        (corrupted(ready=[3, 80]), "expected 5 fields"),
        (corrupted(ready=[3, 80, [[1]], 7, 0]), "Status.ready.used"),
        (corrupted(ready=[3, 80, 5, 7, 0]), "Status.ready.used"),
        (corrupted(silent=[["x", 1.0]]), "Status.silent"),
        (corrupted(silent=[[peer_name(0), 1.0, 2.0]]), "Status.silent"),
        (corrupted(waiting_on=[peer_name(0)] * 5000), "Status.waiting_on"),
        (encode(STATUS) + b"\x00", "not msgpack"),
    ],
)
def test_what_is_not_a_message_is_refused_with_a_reason(data: bytes, why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        decode(data)


@given(st.binary(max_size=300))
def test_random_bytes_are_a_message_or_refused(data: bytes) -> None:
    with suppress(BadMessage):
        assert isinstance(decode(data), Message)


@given(st.integers(0, len(encode(STATUS)) - 1), st.integers(0, 255))
def test_one_changed_byte_gives_a_message_or_a_refusal(position: int, value: int) -> None:
    data = bytearray(encode(STATUS))
    data[position] = value
    with suppress(BadMessage):
        assert isinstance(decode(bytes(data)), Message)


def test_ballots_are_ordered_by_round_attempt_and_rank() -> None:
    ballots = [Ballot(round=r, attempt=a, rank=k, lineage=0) for r in (1, 2) for a in (0, 1) for k in (0, 1)]
    assert sorted(ballots, key=Ballot.key) == ballots
    for before, after in itertools.pairwise(ballots):
        assert before < after
        assert after.outruns(before)
        assert after.may_follow(before)
        assert not before.may_follow(after)


def test_of_two_histories_no_ballot_outruns_the_other_but_either_may_follow() -> None:
    here, there = BALLOT, BALLOT.model_copy(update={"attempt": BALLOT.attempt + 1, "lineage": 1})
    for one, other in ((here, there), (there, here)):
        assert not one.outruns(other)
        assert one.may_follow(other)
    assert here.outruns(None)
    assert here.may_follow(None)
