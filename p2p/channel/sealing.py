"""Sealed records, sans I/O: what bulk lanes carry instead of TLS records.

On the wire: u32 length of the plain bytes (little endian; with PADDING, nobody wants them), then as many bytes of
AES-256-GCM and its tag of 16, which vouches for the length, too.
Records are sixteen times as large as TLS', and are sealed from where the payload lies and opened to where it belongs:
encryption is the only time that the program touches it. Keys are fresh for each lane and direction (HKDF-SHA256, RFC
5869): they come from both sides' shares of the link's secret, which they told each other over the control lane's TLS,
and both sides' salts. A record's number is its nonce, so records cannot be repeated, left out or swapped unnoticed;
after RECORDS_A_KEY another key follows from the present one, long before GCM would wear out (NIST SP 800-38D,
appendix B).
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from p2p.protocol.model import BadMessage

RECORD_BYTES = 256 << 10
"""Plain bytes of the largest record: it stays in the cache while it is sealed and handed to the kernel."""
HEADER = struct.Struct("<I")
PADDING = 1 << 31
"""Added to a record's length."""
TAG_BYTES = 16
OVERHEAD_BYTES = HEADER.size + TAG_BYTES
BEYOND_BYTES = 1 << 10
"""Read along with a record: the small ones that follow it, and how long the next large one is."""
KEY_BYTES = 32
SECRET_BYTES = 32
"""One side's share of a link's secret."""
SALT_BYTES = 16
RECORDS_A_KEY = 1 << 20


class LaneKeys(NamedTuple):
    """32 bytes for each direction, named after who sends."""

    dialler: bytes
    listener: bytes


def fresh_salt() -> bytes:
    return os.urandom(SALT_BYTES)


def lane_keys(secret: bytes, link: bytes, lane: int, dialler_salt: bytes, listener_salt: bytes) -> LaneKeys:
    """The keys of one lane. `secret`: the dialler's share of the link's secret, then the listener's."""
    derivation = HKDF(SHA256(), 2 * KEY_BYTES, dialler_salt + listener_salt, b"swarm lane" + link + bytes([lane]))
    keys = derivation.derive(secret)
    return LaneKeys(keys[:KEY_BYTES], keys[KEY_BYTES:])


class _Cipher:
    """A key, the number of the next record, and the keys that follow."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._records = 0
        self.aead = AESGCM(key)

    def nonce(self) -> bytes:
        """For the next record; no nonce comes twice with one key."""
        if self._records == RECORDS_A_KEY:
            self._key = HKDFExpand(SHA256(), KEY_BYTES, b"swarm next key").derive(self._key)
            self._records, self.aead = 0, AESGCM(self._key)
        self._records += 1
        return self._records.to_bytes(12, "little")


class Sealer:
    """Makes records. One direction of one lane."""

    def __init__(self, key: bytes) -> None:
        self._cipher = _Cipher(key)

    def seal(self, plain: bytes | bytearray | memoryview, out: memoryview, padding: bool = False) -> int:
        """Write `plain`, at most RECORD_BYTES, to `out` as one record; its size on the wire."""
        size = len(plain)
        assert size <= RECORD_BYTES, "the caller cuts"
        header = HEADER.pack(size | PADDING if padding else size)
        out[: HEADER.size] = header
        nonce = self._cipher.nonce()
        self._cipher.aead.encrypt_into(nonce, plain, header, out[HEADER.size : size + OVERHEAD_BYTES])
        return size + OVERHEAD_BYTES

    def greeting(self) -> bytes:
        """An empty record: whoever can open it has met somebody who has the key."""
        out = bytearray(OVERHEAD_BYTES)
        self.seal(b"", memoryview(out))
        return bytes(out)


class Opener:
    """Takes records apart: fill `buffer()`, tell `received`, then `open` each that is `whole`."""

    def __init__(self, key: bytes) -> None:
        self._cipher = _Cipher(key)
        self._room = memoryview(bytearray(RECORD_BYTES + OVERHEAD_BYTES + BEYOND_BYTES))
        self._start = self._stop = 0
        """Of what has arrived and was not opened."""
        self.whole: int | None = None
        """Plain bytes of the next record, if all of it has arrived."""
        self.missing = HEADER.size
        """Bytes of the record that has begun, or of its header, which are yet to arrive."""
        self.padding = False
        """Whether that record is padding."""

    def buffer(self) -> memoryview:
        """Where the next bytes go; never empty."""
        assert self.whole is None, "open what has arrived"
        if self._start:
            self._room[: self._stop - self._start] = bytes(self._room[self._start : self._stop])
            self._start, self._stop = 0, self._stop - self._start
        return self._room[self._stop : self._stop + self.missing + BEYOND_BYTES]

    def received(self, count: int) -> None:
        """`count` bytes were put into `buffer()`. Raises BadMessage."""
        self._stop += count
        self._look()

    def open(self, out: memoryview) -> None:
        """Put the next record's plain bytes into `out`, which has their size. Raises BadMessage."""
        assert self.whole is not None, "see `whole`"
        begin = self._start + HEADER.size
        end = begin + self.whole + TAG_BYTES
        nonce = self._cipher.nonce()
        try:
            self._cipher.aead.decrypt_into(nonce, self._room[begin:end], self._room[self._start : begin], out)
        except InvalidTag:
            raise BadMessage("a record was not sealed with this lane's key, or not in this order") from None
        self._start = end
        self._look()

    def _look(self) -> None:
        """At the record that has begun, after every change: how long it is, and how much of it is there."""
        self.whole, there = None, self._stop - self._start
        if there < HEADER.size:
            self.missing = HEADER.size - there
            return
        header = int(HEADER.unpack_from(self._room, self._start)[0])
        size = header & ~PADDING
        if size > RECORD_BYTES:
            raise BadMessage(f"a record of {size} bytes, where {RECORD_BYTES} are allowed")
        self.padding = bool(header & PADDING)
        self.missing = max(0, size + OVERHEAD_BYTES - there)
        if not self.missing:
            self.whole = size
