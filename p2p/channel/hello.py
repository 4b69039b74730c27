"""What two nodes say to each other before a link carries messages, and the last words on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgpack
from pydantic import Field

from p2p.channel.sealing import SECRET_BYTES
from p2p.contact import SignedContact
from p2p.protocol.message import Message
from p2p.protocol.messages import MESSAGES
from p2p.protocol.model import BadMessage, OptionalDigest, PeerId, Reason, Signature, unpack

PROTOCOL_VERSION = 8
MAX_LANES = 16
MAX_PROOF_BYTES = 512
MAX_RUN_BYTES = 16 << 10
MAX_HELLO_BYTES = MAX_RUN_BYTES + 1024
MAX_CONTACTS_TOLD = 64
"""In one message."""

Scalar = str | int | float | bool | None
Nonce = Annotated[bytes, Field(min_length=32, max_length=32)]
Secret = Annotated[bytes, Field(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
LinkId = Annotated[bytes, Field(max_length=16)]
"""Names one link of two peers: the first 16 bytes of its control lane's nonce; empty for none."""
RefusalCode = Literal["identity", "self", "version", "run", "policy", "duplicate"]


class Challenge(Message):
    """Listener to dialler, first of all: sign this."""

    KIND = "challenge"
    nonce: Nonce


class Proof(Message):
    """Dialler to listener: signature of (listener's id, dialler's id, nonce) by the dialler's key."""

    KIND = "proof"
    peer: PeerId
    signature: Signature


class Hello(Message):
    """Who the sender is in this run. Sent by the dialler after its proof, then by the listener."""

    KIND = "hello"
    version: Annotated[int, Field(ge=0, le=1 << 16)]
    peer: PeerId
    instance: Annotated[bytes, Field(min_length=8, max_length=8)]
    """Random bytes of the sender's process: another instance of the same peer is that node restarted."""
    secret: Secret
    """Random bytes for this connection: the sender's share of what the keys of the link's bulk lanes come from."""
    lost: LinkId
    """The last link that the sender had with the receiver and has no more."""
    role: Literal["member", "observer"]
    fingerprint: OptionalDigest
    run: Annotated[bytes, Field(max_length=MAX_RUN_BYTES)]
    """msgpack of the run's fields, so that a refusal can name those that differ."""


class Accepted(Message):
    """Dialler to listener, when the dialler is the one who decides: this link is in use."""

    KIND = "accepted"


class Refused(Message):
    """Instead of any step: why the sender will not talk to the receiver. The connection closes."""

    KIND = "refused"
    code: RefusalCode
    reason: Reason


class Bye(Message):
    """Last message of a link."""

    KIND = "bye"
    reason: Reason


class Contacts(Message):
    """Whom the sender is linked with at the moment, and where the sender itself is found."""

    KIND = "contacts"
    contacts: Annotated[tuple[SignedContact, ...], Field(max_length=MAX_CONTACTS_TOLD)]


_ON_LINKS: tuple[type[Message], ...] = (Contacts, Bye, Refused)
OPEN_MESSAGES: dict[str, type[Message]] = MESSAGES | {kind.KIND: kind for kind in _ON_LINKS}
"""What may arrive on an open link."""


def decode_one_of(data: bytes, kinds: Mapping[str, type[Message]], limit: int) -> Message:
    """The message in `data`, which must be of one of `kinds`. Raises BadMessage."""
    values = unpack(data, limit)
    if not isinstance(values, tuple) or not values or not isinstance(values[0], str):
        raise BadMessage("not an array that starts with a kind")
    kind = kinds.get(values[0])
    if kind is None:
        raise BadMessage(f"unexpected kind {values[0][:32]!r}")
    return kind.from_wire(values[1:])


@dataclass(frozen=True)
class RunIdentity:
    """What all members of a run share: the 32-byte fingerprint, and the settings it is made of."""

    fingerprint: bytes
    fields: Mapping[str, Scalar] = field(default_factory=dict)

    def packed(self) -> bytes:
        data = bytes(msgpack.packb(dict(self.fields), use_bin_type=True))
        assert len(data) <= MAX_RUN_BYTES, "a run's settings fit a Hello"
        return data


def describe_difference(ours: bytes, theirs: bytes) -> str:
    """One line naming the run fields (packed) that differ, with both values; never longer than a Reason."""
    mine, other = _fields(ours), _fields(theirs)
    names = [name for name in sorted({*mine, *other}) if _shown(mine, name) != _shown(other, name)]
    if not names:
        return "another run: the fingerprints differ, though no named setting does (another version of the program?)"
    listed = [f"{_short(name)} is {_shown(mine, name)} here, {_shown(other, name)} there" for name in names]
    text = "another run: " + "; ".join(listed)
    return text if len(text) <= 480 else text[:480] + "..."


def _fields(packed: bytes) -> dict[str, Any]:
    try:
        values = unpack(packed, MAX_RUN_BYTES)
    except BadMessage:
        return {}
    return {name: value for name, value in values.items() if isinstance(name, str)} if isinstance(values, dict) else {}


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return _short(repr(fields[name])) if name in fields else "absent"


def _short(text: str) -> str:
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 64 else text[:61] + "..."
