"""Signed contacts: where a peer can be reached, told by the peer itself."""

from __future__ import annotations

from typing import Annotated

import msgpack
from pydantic import Field

from p2p.identity import Identity, verify
from p2p.protocol.model import BadMessage, Count, Digest, Model, PeerId, Signature, unpack

DOMAIN = b"swarm-contact"
MAX_CONTACT_BYTES = 4096
MAX_KNOWN = 4096

Host = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:%-]+$")]
"""A host name or an IP address, as a person would type it."""
Port = Annotated[int, Field(ge=1, le=65535)]
Address = tuple[Host, Port]


class Contact(Model):
    """What a node announces of itself; the highest `sequence` of a peer is the current one."""

    peer: PeerId
    p2pd: Annotated[str, Field(max_length=64)]
    """Peer id of the node's DHT daemon; empty without one."""
    addresses: Annotated[tuple[Address, ...], Field(max_length=8)]
    """Where the data plane listens, best first; empty when it cannot be dialled."""
    fingerprint: Digest
    sequence: Count
    run: Annotated[str, Field(max_length=64)] = ""
    """Name of the run, under which nodes look for each other: those whose settings differ meet, and are told."""

    def signed_bytes(self) -> bytes:
        return bytes(msgpack.packb(self.to_wire(), use_bin_type=True))


class SignedContact(Model):
    contact: Contact
    signature: Signature

    def is_genuine(self) -> bool:
        """Whether the peer that the contact names has signed it."""
        return verify(self.contact.peer, DOMAIN, self.contact.signed_bytes(), self.signature)

    def check(self) -> None:
        """Raise BadMessage unless it is genuine."""
        if not self.is_genuine():
            raise BadMessage(f"contact of {self.contact.peer} is not signed by it")

    def to_bytes(self) -> bytes:
        return bytes(msgpack.packb(self.to_wire(), use_bin_type=True))

    @classmethod
    def from_bytes(cls, data: bytes) -> SignedContact:
        """Inverse of `to_bytes`; checks the signature too. Raises BadMessage."""
        signed = cls.from_wire(unpack(data, MAX_CONTACT_BYTES))
        signed.check()
        return signed


def sign_contact(identity: Identity, contact: Contact) -> SignedContact:
    """Sign one's own contact."""
    assert contact.peer == identity.peer_id, "a node signs its own contact only"
    return SignedContact(contact=contact, signature=identity.sign(DOMAIN, contact.signed_bytes()))


class ContactBook:
    """The newest genuine contact of each peer of one run (of any run, for an observer without a fingerprint)."""

    def __init__(self, fingerprint: bytes) -> None:
        self._fingerprint = fingerprint
        self._known: dict[str, SignedContact] = {}

    def add(self, signed: SignedContact) -> bool:
        """Keep `signed` if it is of this run and newer than what is known; True if kept.

        Raises BadMessage if it is forged.
        """
        contact = signed.contact
        known = self._known.get(contact.peer)
        if self._fingerprint not in (b"", contact.fingerprint) or (
            known and known.contact.sequence >= contact.sequence
        ):
            return False
        if known is None and len(self._known) >= MAX_KNOWN:
            return False
        signed.check()
        self._known[contact.peer] = signed
        return True

    def signed(self, peer: str) -> SignedContact | None:
        return self._known.get(peer)

    def get(self, peer: str) -> Contact | None:
        signed = self._known.get(peer)
        return signed.contact if signed else None

    def discard(self, peer: str) -> None:
        self._known.pop(peer, None)

    def all(self) -> list[SignedContact]:
        return list(self._known.values())
