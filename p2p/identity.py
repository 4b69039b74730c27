"""A node's identity: one Ed25519 key, its libp2p peer id, and the file that keeps it.

Keys and peer ids are py-libp2p's. Whatever a node signs carries a domain, so that a signature made for one purpose can
never be shown as one for another.
"""

from __future__ import annotations

import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path

from google.protobuf.message import DecodeError

from p2p.errors import SwarmError
from p2p.libp2p_import import (
    ID,
    Ed25519PrivateKey,
    Ed25519PublicKey,
    MissingDeserializerError,
    create_new_key_pair,
    deserialize_private_key,
)

SIGNATURE_BYTES = 64
_MAX_KEY_FILE_BYTES = 4096
# A peer id of an Ed25519 key is an identity multihash (code 0, length 36) of the protobuf {1: Ed25519, 2: 32 bytes}:
# https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
_INLINE_KEY_PREFIX = bytes((0x00, 0x24, 0x08, 0x01, 0x12, 0x20))


class KeyFileError(SwarmError):
    """The key file cannot be used as it is."""


class KeyFileMode(KeyFileError):
    """Others than its owner can read the key file."""


class KeyFileCorrupt(KeyFileError):
    """The key file holds no Ed25519 private key."""


class Identity:
    """An Ed25519 key pair and its peer id (base58 text)."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self.private_key = private_key
        self.peer_id: str = ID.from_pubkey(private_key.get_public_key()).to_base58()

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"

    @classmethod
    def generate(cls) -> Identity:
        """A new identity that lives no longer than this process."""
        return cls(create_new_key_pair().private_key)

    @classmethod
    def load(cls, path: Path | str) -> Identity:
        """Read a key file. Raises KeyFileError, KeyFileMode, KeyFileCorrupt."""
        path = Path(path)
        data = _read_private(path)
        try:
            key = deserialize_private_key(data)
        except (DecodeError, MissingDeserializerError, ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileCorrupt(
                f"{path} holds no Ed25519 private key: restore it from a backup, or delete it to get a new identity"
            )
        return cls(key)

    @classmethod
    def load_or_create(cls, path: Path | str) -> Identity:
        """Read the key file, or make a new key and write it with mode 0600. Raises as `load`."""
        path = Path(path)
        if not path.exists():
            identity = cls.generate()
            if _write_new(path, identity.private_key.serialize()):
                return identity
        return cls.load(path)

    def sign(self, domain: bytes, data: bytes) -> bytes:
        """64-byte Ed25519 signature over `data` within `domain`."""
        return bytes(self.private_key.sign(_framed(domain, data)))


def verify(peer_id: str, domain: bytes, data: bytes, signature: bytes) -> bool:
    """Whether the owner of `peer_id` made `signature` with `Identity.sign(domain, data)`."""
    key = _public_key(peer_id)
    if key is None or len(signature) != SIGNATURE_BYTES:
        return False
    return bool(key.verify(_framed(domain, data), signature))


def is_peer_id(text: str) -> bool:
    """Whether `text` is the one canonical spelling of an Ed25519 peer id."""
    return _public_key(text) is not None


def _framed(domain: bytes, data: bytes) -> bytes:
    assert len(domain) < 256, "domains are short names"
    return b"swarm\x00" + bytes((len(domain),)) + domain + data


@lru_cache(maxsize=4096)
def _public_key(peer_id: str) -> Ed25519PublicKey | None:
    """The key that an Ed25519 peer id spells out; None for anything else. Cached: base58 is slow Python."""
    if len(peer_id) > 64:
        return None
    try:
        parsed = ID.from_base58(peer_id)
    except ValueError:
        return None
    raw = parsed.to_bytes()
    # base58 decoding forgives blanks: only the canonical text may name a peer, or one peer would have several names
    if len(raw) != len(_INLINE_KEY_PREFIX) + 32 or parsed.to_base58() != peer_id:
        return None
    if not raw.startswith(_INLINE_KEY_PREFIX):
        return None
    return Ed25519PublicKey.from_bytes(raw[len(_INLINE_KEY_PREFIX) :])


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o077:
                raise KeyFileMode(f"{path} has mode {mode:04o}, so others may read this node's key: chmod 600 {path}")
            return file.read(_MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {path}: {error.strerror}") from None


def _write_new(path: Path, data: bytes) -> bool:
    """Create `path` with `data`, complete or not at all; False when somebody else created it first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
    except OSError as error:
        raise KeyFileError(f"cannot write the key file {path}: {error.strerror}") from None
    return True
