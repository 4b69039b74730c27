"""Whom a node has met, kept on disk: a node that starts again finds the swarm even if its bootstrap peers are dead.

The file is written anew and moved into place: "swarm contacts 1\\n", then msgpack of [signed contact, ...].
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgpack

from p2p.contact import MAX_CONTACT_BYTES, MAX_KNOWN, SignedContact
from p2p.errors import SwarmError
from p2p.protocol.model import BadMessage, unpack

MAGIC = b"swarm contacts 1\n"
_MAX_BYTES = MAX_KNOWN * MAX_CONTACT_BYTES


class BadContactFile(SwarmError):
    """The file cannot be used; a node can do without it."""


def save_contacts(path: Path, contacts: Sequence[SignedContact]) -> None:
    """Replace the file, wholly or not at all. Raises BadContactFile."""
    body = bytes(msgpack.packb([signed.to_wire() for signed in contacts[:MAX_KNOWN]], use_bin_type=True))
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(MAGIC + body)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise BadContactFile(f"cannot write {path}: {error.strerror}") from None


def load_contacts(path: Path) -> list[SignedContact]:
    """The contacts in the file, their signatures unchecked; none if there is no file. Raises BadContactFile."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + len(MAGIC) + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadContactFile(f"cannot read {path}: {error.strerror}") from None
    try:
        if not data.startswith(MAGIC):
            raise BadMessage("it does not begin as one")
        values = unpack(data[len(MAGIC) :], _MAX_BYTES)
        if not isinstance(values, tuple) or len(values) > MAX_KNOWN:
            raise BadMessage("it holds no list of contacts")
        return [SignedContact.from_wire(value) for value in values]
    except BadMessage as error:
        raise BadContactFile(f"{path} is no file of contacts ({error}); it will be written anew") from None
