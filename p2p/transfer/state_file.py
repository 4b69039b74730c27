"""The state on disk, chunk by chunk, for this node's next start: each chunk of whatever round it was last written at.

    header   "swarm state 1\\n", the run's fingerprint (32 bytes), values and values a chunk (u64, little endian)
    table    at 4096: an entry a chunk, i64 round and 32 bytes seal: BLAKE3 of the round and the chunk's bytes
    chunks   from the next multiple of 4096 on, each in its place; the file is sparse where nothing was written

Nothing is synced and nothing is renamed: what a crash of the process or of the machine leaves half-written does not fit
its seal, and is not there. Whether a chunk is of any use, the members' manifests decide.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from ops.digest import SIZE, digest
from p2p.protocol.holdings import EMPTY
from p2p.transfer.state import VALUE_BYTES

MAGIC = b"swarm state 1\n"
_PAGE = 4096
_ROUND = struct.Struct("<q")
_ENTRY_BYTES = _ROUND.size + SIZE


class StateFile:
    """One writer and one reader at a time, from any thread. All methods but `round` block."""

    def __init__(self, path: Path, fingerprint: bytes, count: int, chunk_values: int) -> None:
        """Open or create; a file of another run, or of other sizes, is begun anew. Raises OSError."""
        self.path = path
        self._count, self._chunk_values = count, chunk_values
        chunks = -(-count // chunk_values)
        self._data = -(-(_PAGE + chunks * _ENTRY_BYTES) // _PAGE) * _PAGE
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        header = MAGIC + fingerprint + struct.pack("<QQ", count, chunk_values)
        if os.pread(self._file, len(header), 0) != header:
            os.ftruncate(self._file, 0)
            _write(self._file, header, 0)
        table = os.pread(self._file, chunks * _ENTRY_BYTES, _PAGE).ljust(chunks * _ENTRY_BYTES, b"\0")
        entries = [table[start : start + _ENTRY_BYTES] for start in range(0, len(table), _ENTRY_BYTES)]
        self._rounds = [_ROUND.unpack_from(entry)[0] if any(entry) else EMPTY for entry in entries]
        self._seals = [entry[_ROUND.size :] for entry in entries]

    def round(self, index: int) -> int:
        """Round that a chunk was last written at, as far as the table says; EMPTY (-2) if it never was."""
        return self._rounds[index]

    def write(self, index: int, round: int, data: bytes | bytearray) -> None:
        """Replace a chunk. Raises OSError; it is then not there."""
        start, size = self._place(index)
        view = memoryview(data).cast("B")
        assert len(view) == size, (len(view), size)
        self._rounds[index] = EMPTY
        _write(self._file, view, start)
        seal = digest(_ROUND.pack(round), view)
        _write(self._file, _ROUND.pack(round) + seal, _PAGE + index * _ENTRY_BYTES)
        self._rounds[index], self._seals[index] = round, seal

    def read(self, index: int) -> tuple[int, bytes] | None:
        """(round, bytes) of a chunk; None if it is not there, or not whole. Raises OSError."""
        round = self._rounds[index]
        if round == EMPTY:
            return None
        start, size = self._place(index)
        data = os.pread(self._file, size, start)
        return (round, data) if digest(_ROUND.pack(round), data) == self._seals[index] else None

    def close(self) -> None:
        os.close(self._file)

    def _place(self, index: int) -> tuple[int, int]:
        """Offset and size of a chunk."""
        first = index * self._chunk_values
        values = min(self._chunk_values, self._count - first)
        return self._data + VALUE_BYTES * first, VALUE_BYTES * values


def _write(file: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
