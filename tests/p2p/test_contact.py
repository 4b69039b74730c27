"""Contacts: only the peer itself can say where it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import p2p.contact
from p2p.contact import Contact, ContactBook, SignedContact, sign_contact
from p2p.identity import Identity
from p2p.protocol.model import BadMessage

RUN = b"r" * 32


def contact_of(identity: Identity, sequence: int = 1, fingerprint: bytes = RUN) -> Contact:
    addresses = (("192.0.2.7", 7400), ("node.example.org", 7400), ("2001:db8::1", 7400))
    return Contact(peer=identity.peer_id, p2pd="", addresses=addresses, fingerprint=fingerprint, sequence=sequence)


def test_a_signed_contact_survives_the_wire() -> None:
    identity = Identity.generate()
    signed = sign_contact(identity, contact_of(identity))
    assert signed.is_genuine()
    assert SignedContact.from_bytes(signed.to_bytes()) == signed


def test_a_contact_signed_by_another_is_refused() -> None:
    identity, forger = Identity.generate(), Identity.generate()
    contact = contact_of(identity)
    forged = SignedContact(contact=contact, signature=sign_contact(forger, contact_of(forger)).signature)
    assert not forged.is_genuine()
    with pytest.raises(BadMessage, match="not signed by it"):
        SignedContact.from_bytes(forged.to_bytes())


def test_a_changed_contact_is_refused() -> None:
    identity = Identity.generate()
    signed = sign_contact(identity, contact_of(identity))
    moved = signed.contact.model_copy(update={"addresses": (("198.51.100.1", 1),)})
    assert not signed.model_copy(update={"contact": moved}).is_genuine()


@pytest.mark.parametrize(
    "address", [("", 1), ("host", 0), ("host", 65536), ("a b", 1), ("x" * 254, 1), ("host\n", 1), ("host", "1")]
)
def test_addresses_are_validated(address: tuple[str, int]) -> None:
    identity = Identity.generate()
    with pytest.raises(ValidationError):
        Contact(peer=identity.peer_id, p2pd="", addresses=(address,), fingerprint=RUN, sequence=0)


@given(st.binary(max_size=300))
def test_hostile_bytes_are_a_bad_message(data: bytes) -> None:
    with pytest.raises(BadMessage):
        SignedContact.from_bytes(data)


def test_the_book_keeps_the_newest_genuine_contact_of_its_run() -> None:
    identity, forger = Identity.generate(), Identity.generate()
    book = ContactBook(RUN)
    second = sign_contact(identity, contact_of(identity, 2))
    assert book.add(second)
    assert not book.add(second)
    assert not book.add(sign_contact(identity, contact_of(identity, 1)))
    assert not book.add(sign_contact(forger, contact_of(forger, 1, b"o" * 32)))
    newer = contact_of(identity, 3)
    with pytest.raises(BadMessage, match="not signed by it"):
        book.add(SignedContact(contact=newer, signature=forger.sign(p2p.contact.DOMAIN, newer.signed_bytes())))
    assert book.all() == [second]
    assert book.get(identity.peer_id) == second.contact
    assert book.signed(identity.peer_id) == second
    book.discard(identity.peer_id)
    assert book.get(identity.peer_id) is None


def test_an_observers_book_takes_contacts_of_any_run() -> None:
    identity = Identity.generate()
    assert ContactBook(b"").add(sign_contact(identity, contact_of(identity)))


def test_the_book_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p2p.contact, "MAX_KNOWN", 2)
    book = ContactBook(RUN)
    identities = [Identity.generate() for _ in range(3)]
    kept = [book.add(sign_contact(identity, contact_of(identity))) for identity in identities]
    assert kept == [True, True, False]
    assert book.add(sign_contact(identities[0], contact_of(identities[0], 2)))
