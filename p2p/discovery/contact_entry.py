"""A signed contact as an entry of the DHT: its key, its life, and the rule by which every member refuses forgeries.

An entry's expiration follows from the signed sequence number, so nobody can keep somebody else's old contact alive, and
the newest contact always wins (hivemind prefers the later expiration).
"""

from __future__ import annotations

from functools import lru_cache

import msgpack

from p2p.contact import MAX_CONTACT_BYTES, SignedContact
from p2p.discovery.dht_clock import dht_time
from p2p.discovery.hivemind_import import DHTID, DHTRecord, RecordValidatorBase
from p2p.protocol.model import BadMessage, unpack

TTL_SECONDS = 60.0
MAX_CONTACTS = 4096
"""Contacts one lookup returns at most."""
_MAX_AHEAD_SECONDS = 3600.0
_SLACK_BYTES = 16


def key_of(run: str) -> str:
    """The DHT key of a run's contacts; the subkey is the peer id."""
    return f"swarm/contacts/{run}"


def next_sequence(previous: int = 0) -> int:
    """The sequence number for a contact that is signed now: DHT time in milliseconds, but above `previous`."""
    return max(previous + 1, int(dht_time() * 1000))


def expiration_of(sequence: int) -> float:
    """DHT time at which a contact with this sequence number ends."""
    return sequence / 1000 + TTL_SECONDS


class ContactValidator(RecordValidatorBase):  # type: ignore[misc]  # hivemind has no type stubs
    """Lets a DHT hold signed contacts only, each under its run's key and its signer's subkey, for its own time."""

    def validate(self, record: DHTRecord) -> bool:
        entry = _parse(bytes(record.value))
        if entry is None:
            return False
        key, subkey, expiration = entry
        return (
            (record.key, record.subkey) == (key, subkey)
            and abs(record.expiration_time - expiration) < 1e-3
            and expiration < dht_time() + TTL_SECONDS + _MAX_AHEAD_SECONDS
        )


@lru_cache(maxsize=MAX_CONTACTS)
def _parse(value: bytes) -> tuple[bytes, bytes, float] | None:
    """(key, subkey, expiration) that a genuine contact belongs to; cached because lookups bring the same ones again."""
    try:
        inner = unpack(value, MAX_CONTACT_BYTES + _SLACK_BYTES)
        if not isinstance(inner, bytes):
            return None
        contact = SignedContact.from_bytes(inner).contact
    except BadMessage:
        return None
    key = DHTID.generate(source=key_of(contact.run)).to_bytes()
    return key, msgpack.packb(contact.peer), expiration_of(contact.sequence)
