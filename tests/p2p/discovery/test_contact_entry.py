"""Which records a member's DHT takes in."""

import msgpack
import pytest

from p2p.contact import Contact, SignedContact, sign_contact
from p2p.discovery.contact_entry import TTL_SECONDS, ContactValidator, expiration_of, key_of, next_sequence
from p2p.discovery.dht_clock import dht_time
from p2p.discovery.hivemind_import import DHTID, DHTRecord
from p2p.identity import Identity

RUN, OTHER_RUN = "run", "other run"
OWNER, STRANGER = Identity.generate(), Identity.generate()


def signed(sequence: int | None = None) -> SignedContact:
    sequence = next_sequence() if sequence is None else sequence
    return sign_contact(
        OWNER, Contact(peer=OWNER.peer_id, p2pd="", addresses=(), fingerprint=bytes(32), sequence=sequence, run=RUN)
    )


def accepts(
    contact: SignedContact,
    *,
    run: str = RUN,
    subkey: object = OWNER.peer_id,
    value: object = None,
    expiration: float | None = None,
) -> bool:
    record = DHTRecord(
        key=DHTID.generate(source=key_of(run)).to_bytes(),
        subkey=msgpack.packb(subkey),
        value=msgpack.packb(contact.to_bytes() if value is None else value),
        expiration_time=expiration_of(contact.contact.sequence) if expiration is None else expiration,
    )
    return ContactValidator().validate(record)


def test_a_fresh_contact_is_taken_for_60_seconds() -> None:
    contact = signed()
    assert accepts(contact)
    assert expiration_of(contact.contact.sequence) - dht_time() == pytest.approx(TTL_SECONDS, abs=5)


def test_sequence_numbers_only_rise() -> None:
    first = next_sequence()
    assert next_sequence(first + 10**9) == first + 10**9 + 1
    assert next_sequence(first) > first


@pytest.mark.parametrize(
    "change",
    [
        {"run": OTHER_RUN},
        {"subkey": STRANGER.peer_id},
        {"subkey": None},  # a plain value would replace everybody's entries
        {"subkey": 7},
        {"value": b""},
        {"value": "text"},
        {"value": b"x" * 100_000},
        {"value": [1, [2]]},
        {"expiration": dht_time() + 10**6},  # a replay that would outlive its contact
        {"expiration": float("inf")},
        {"expiration": float("nan")},
    ],
)
def test_a_misplaced_record_is_refused(change: dict[str, object]) -> None:
    assert not accepts(signed(), **change)  # type: ignore[arg-type]


def test_a_contact_altered_or_signed_by_another_is_refused() -> None:
    genuine = signed()
    moved = genuine.contact.model_copy(update={"addresses": (("203.0.113.9", 1),)})
    assert not accepts(SignedContact(contact=moved, signature=genuine.signature))
    claimed = genuine.contact.model_copy(update={"peer": STRANGER.peer_id})
    assert not accepts(SignedContact(contact=claimed, signature=genuine.signature), subkey=STRANGER.peer_id)


def test_a_contact_from_the_far_future_is_refused() -> None:
    assert not accepts(signed(next_sequence() + 10**9))
