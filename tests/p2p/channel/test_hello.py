"""The words of the handshake, and how a refusal explains itself."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.channel.hello import (
    MAX_CONTACTS_TOLD,
    MAX_HELLO_BYTES,
    MAX_RUN_BYTES,
    OPEN_MESSAGES,
    Bye,
    Challenge,
    Contacts,
    Hello,
    decode_one_of,
    describe_difference,
)
from p2p.contact import Contact, sign_contact
from p2p.identity import Identity
from p2p.protocol.messages import encode
from p2p.protocol.model import MAX_MESSAGE_BYTES, BadMessage
from p2p.protocol.transfer_messages import NotAvailable

HELLO = {Hello.KIND: Hello}


def test_the_longest_hello_survives_the_wire_within_the_limit() -> None:
    hello = Hello(
        version=1 << 16,
        peer=Identity.generate().peer_id,
        instance=bytes(8),
        secret=bytes(32),
        lost=bytes(16),
        role="observer",
        fingerprint=bytes(32),
        run=b"x" * MAX_RUN_BYTES,
    )
    assert decode_one_of(encode(hello), HELLO, MAX_HELLO_BYTES) == hello


def test_the_longest_contacts_survive_the_wire_within_the_limit() -> None:
    identity = Identity.generate()
    contact = Contact(
        peer=identity.peer_id,
        p2pd="Q" * 64,
        addresses=(("x" * 253, 65535),) * 8,
        fingerprint=bytes(32),
        sequence=1 << 62,
        run="\N{GRINNING FACE}" * 64,
    )
    message = Contacts(contacts=(sign_contact(identity, contact),) * MAX_CONTACTS_TOLD)
    assert decode_one_of(encode(message), OPEN_MESSAGES, MAX_MESSAGE_BYTES) == message


def test_only_the_expected_kinds_are_taken() -> None:
    with pytest.raises(BadMessage, match="unexpected kind 'challenge'"):
        decode_one_of(encode(Challenge(nonce=bytes(32))), HELLO, 1000)
    with pytest.raises(BadMessage, match="exceeds the limit"):
        decode_one_of(encode(Challenge(nonce=bytes(32))), {Challenge.KIND: Challenge}, 10)
    with pytest.raises(BadMessage, match="starts with a kind"):
        decode_one_of(msgpack.packb({"kind": "hello"}), HELLO, 1000)
    for message in (Bye(reason="leaving"), NotAvailable(request=1, reason="gone")):
        assert decode_one_of(encode(message), OPEN_MESSAGES, 1000) == message


@given(st.binary(max_size=200))
def test_hostile_bytes_are_a_bad_message(data: bytes) -> None:
    with pytest.raises(BadMessage):
        decode_one_of(data, HELLO, MAX_HELLO_BYTES)


def packed(**fields: object) -> bytes:
    return bytes(msgpack.packb(fields))


def test_a_difference_names_the_fields_and_both_values() -> None:
    ours = packed(model="demo", outer_lr=0.7, seed=1, old=True)
    theirs = packed(model="1b", outer_lr=0.7, seed=2, new=None)
    assert describe_difference(ours, theirs) == (
        "another run: model is 'demo' here, '1b' there; new is absent here, None there; "
        "old is True here, absent there; seed is 1 here, 2 there"
    )


def test_an_unnamed_difference_says_so() -> None:
    assert "no named setting does" in describe_difference(packed(a=1), packed(a=1))


@pytest.mark.parametrize("theirs", [b"\xc1", b"", msgpack.packb([1]), b"\x00" * (MAX_RUN_BYTES + 1)])
def test_a_run_that_is_not_a_map_has_no_fields(theirs: bytes) -> None:
    assert describe_difference(packed(a=1), theirs) == "another run: a is 1 here, absent there"


@given(
    st.dictionaries(
        st.text(max_size=200), st.one_of(st.text(max_size=300), st.integers(-5, 5), st.none()), max_size=30
    ),
    st.binary(max_size=300),
)
def test_a_description_is_one_bounded_printable_line(fields: dict[str, object], garbage: bytes) -> None:
    for theirs in (packed(**fields), garbage):
        text = describe_difference(packed(a=1), theirs)
        assert len(text) <= 500
        assert text.isprintable()
