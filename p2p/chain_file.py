"""The record chain on disk: one append-only file of signed records, that a crash may tear at its end only.

    header   "swarm records 1\n", then the run's fingerprint (32 bytes)
    entry    u32 length and u32 CRC-32 of the body (little endian), then the body: msgpack of SignedRecord.to_wire()

`ChainFile` is the node's own: what follows the last whole entry that fits the chain is cut off when the file is opened;
peers still have it. Memory: 40 bytes a record. Appends belong to one thread; reads may come from any. `ChainReader`
looks at a file and leaves it alone.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgpack

from p2p.errors import SwarmError
from p2p.protocol.chain import RECORDS_BYTES, InvalidRecord, Tip, genesis_hash
from p2p.protocol.messages import SignedRecord
from p2p.protocol.model import MAX_MESSAGE_BYTES, BadMessage, unpack

MAGIC = b"swarm records 2\n"
_RAW_BYTES = 1 << 20
_ENTRY = struct.Struct("<II")


class ForeignChain(SwarmError):
    """The file belongs to another run, or is no chain at all."""


class ChainFile:
    """A `p2p.protocol.chain.RecordChain` in a file."""

    def __init__(self, path: Path, fingerprint: bytes) -> None:
        """Open or create. Raises ForeignChain, OSError."""
        self.path = path
        self.torn_bytes = 0
        """Bytes that were cut off when the file was opened."""
        header = MAGIC + fingerprint
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._ends = [len(header)]
        found = os.pread(self._file, len(header), 0)
        if found != header[: len(found)]:
            os.close(self._file)
            remedy = "use another node.state_dir, or move the file away"
            raise ForeignChain(f"{path} holds the records of another run: {remedy}")
        if len(found) < len(header):
            _write(self._file, header, 0)
            os.ftruncate(self._file, len(header))
        self._hashes = [genesis_hash(fingerprint)]
        self._tokens = [0]
        self._fingerprint = fingerprint
        self._scan()

    @property
    def tip(self) -> Tip:
        return Tip(self._fingerprint, len(self._hashes) - 2, self._hashes[-1], self._tokens[-1])

    def append(self, signed: SignedRecord) -> None:
        """Add the next record. It outlives a crash of the process at once, one of the machine after some seconds:
        peers give back what was lost. Raises InvalidRecord, OSError."""
        tip = self.tip.extended(signed.record)
        body = bytes(msgpack.packb(signed.to_wire(), use_bin_type=True))
        start = self._ends[-1]
        _write(self._file, _ENTRY.pack(len(body), crc32(body)) + body, start)
        self._take(tip, start + _ENTRY.size + len(body))

    def truncate(self, height: int) -> None:
        assert -1 <= height <= self.tip.height
        del self._hashes[height + 2 :], self._tokens[height + 2 :], self._ends[height + 2 :]
        os.ftruncate(self._file, self._ends[-1])

    def hash_at(self, round: int) -> bytes:
        assert round >= -1
        return self._hashes[round + 1]

    def record(self, round: int) -> SignedRecord:
        assert 0 <= round <= self.tip.height
        return self._read(round)

    def records(self, start: int, limit: int, max_bytes: int = RECORDS_BYTES) -> tuple[SignedRecord, ...]:
        assert start >= 0
        stop = min(start + limit, self.tip.height + 1)
        while stop - start > 1 and self._ends[stop] - self._ends[start] > max_bytes:
            stop -= 1
        return tuple(self._read(round) for round in range(start, stop))

    def raw(self, height: int) -> Iterator[bytes]:
        """The file's bytes up to the record of round `height`: a chain file by themselves. May be read in any thread.

        Raises OSError when the chain is cut meanwhile.
        """
        return self._raw(height + 1, self._hashes[height + 1], self._ends[height + 1])

    def _raw(self, index: int, head: bytes, end: int) -> Iterator[bytes]:
        for start in range(0, end, _RAW_BYTES):
            yield os.pread(self._file, min(_RAW_BYTES, end - start), start)
        if self._hashes[index : index + 1] != [head]:
            raise OSError(f"{self.path}: the chain was cut while it was read")

    def close(self) -> None:
        os.close(self._file)

    def _take(self, tip: Tip, end: int) -> None:
        self._hashes.append(tip.head)
        self._tokens.append(tip.tokens_total)
        self._ends.append(end)

    def _read(self, round: int) -> SignedRecord:
        """Raises OSError when the disk gives back other bytes than were written, or the chain was cut meanwhile."""
        start, end = self._ends[round], self._ends[round + 1]
        body = _body(os.pread(self._file, end - start, start))
        if body is None:
            raise OSError(f"{self.path}: the record of round {round} cannot be read back")
        return SignedRecord.from_wire(unpack(body, len(body)))

    def _scan(self) -> None:
        """Take up the whole entries of the file, and cut off the rest."""
        size = os.fstat(self._file).st_size
        while (start := self._ends[-1]) < size:
            head = os.pread(self._file, _ENTRY.size, start)
            length = _ENTRY.unpack(head)[0] if len(head) == _ENTRY.size else MAX_MESSAGE_BYTES + 1
            body = _body(os.pread(self._file, _ENTRY.size + length, start)) if length <= MAX_MESSAGE_BYTES else None
            if body is None:
                break
            try:
                signed = SignedRecord.from_wire(unpack(body))
                self._take(self.tip.extended(signed.record), start + _ENTRY.size + length)
            except (BadMessage, InvalidRecord):
                break
        self.torn_bytes = size - self._ends[-1]
        if self.torn_bytes:
            os.ftruncate(self._file, self._ends[-1])


class ChainReader:
    """The bodies of a chain file's entries, from round 0 on, of whatever run. A node may be appending to it."""

    def __init__(self, path: Path) -> None:
        """Raises ForeignChain for what is no chain, OSError."""
        self.path = path
        self.torn_bytes = 0
        """At the end: bytes of an entry that is not complete, because of a crash or because it is being written."""
        self._file = path.open("rb")
        self.size = os.fstat(self._file.fileno()).st_size
        header = self._file.read(len(MAGIC) + 32)
        if len(header) < len(MAGIC) + 32 or not header.startswith(MAGIC):
            self._file.close()
            raise ForeignChain(f"{path} holds no records: give a node's state directory")
        self.fingerprint = header[len(MAGIC) :]
        self.offset = len(header)
        """Where the next entry begins."""

    def __iter__(self) -> ChainReader:
        return self

    def __next__(self) -> bytes:
        """Raises InvalidRecord where an entry is damaged."""
        head = self._file.read(_ENTRY.size)
        length = _ENTRY.unpack(head)[0] if len(head) == _ENTRY.size else 0
        if length > MAX_MESSAGE_BYTES:
            raise InvalidRecord(
                f"the entry at byte {self.offset} of {self.path} is damaged: {length} bytes are too many"
            )
        entry = head + self._file.read(length)
        if len(entry) < _ENTRY.size + length or len(head) < _ENTRY.size:
            if _whole_all_the_same(entry):
                raise InvalidRecord(
                    f"the entry at byte {self.offset} of {self.path} is damaged: the record is whole, its length wrong"
                )
            self.torn_bytes = len(entry)
            raise StopIteration
        body = _body(entry)
        if body is None:
            raise InvalidRecord(f"the entry at byte {self.offset} of {self.path} is damaged: its checksum is wrong")
        self.offset += len(entry)
        return body

    def close(self) -> None:
        self._file.close()


def _body(entry: bytes) -> bytes | None:
    """The body of a whole entry with the right checksum."""
    if len(entry) < _ENTRY.size:
        return None
    length, checksum = _ENTRY.unpack_from(entry)
    body = entry[_ENTRY.size :]
    return body if len(body) == length and crc32(body) == checksum else None


def _whole_all_the_same(entry: bytes) -> bool:
    """Whether an entry that is shorter than its length says holds its body: msgpack tells where that ends, and its
    checksum is right. A crash cannot leave that behind, since lengths are written before bodies."""
    if len(entry) <= _ENTRY.size:
        return False
    rest = entry[_ENTRY.size :]
    walk = msgpack.Unpacker(max_buffer_size=len(rest))
    walk.feed(rest)
    try:
        walk.skip()
    # bytes of any kind, after whatever has happened to the disk
    except (ValueError, RecursionError, msgpack.UnpackException):
        return False
    return bool(crc32(rest[: walk.tell()]) == _ENTRY.unpack_from(entry)[1])


def _write(file: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
