"""One flat vector in a file of the safetensors format: a JSON header that names the tensors, then their bytes.

The flat vector's order is the file's, so writing is appending, and reading goes straight into the vector: no tensor is
held twice. The safetensors library reads these files as any other (github.com/huggingface/safetensors, "Format").

Shape suffix: P values of the flat vector.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from ops.digest import Buffer
from ops.layout import FlatLayout

_READ_BYTES = 8 << 20


class BadFile(ValueError):
    """A file of a checkpoint that is not what its manifest says; the text says why."""


@dataclass(frozen=True, slots=True)
class Written:
    """Size and BLAKE3 of a file."""

    bytes: int
    blake3: str


def flat_header(layout: FlatLayout) -> bytes:
    """What stands before the values: a u64 length (little endian), then JSON, padded with spaces to 8 bytes."""
    tensors = {
        entry.name: {"dtype": "F32", "shape": list(entry.shape), "data_offsets": [4 * entry.start, 4 * entry.stop]}
        for entry in layout.entries
    }
    text = json.dumps(tensors, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class DurableFile:
    """A new file that is hashed while it is written; whole and on the disk when `finish` returns.

    Use as a context manager: left without `finish`, the file is closed as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._hasher = blake3()
        self._bytes = 0

    def write(self, data: Buffer) -> None:
        """Append; hashing and writing release the GIL. Raises OSError."""
        view = memoryview(data.data if isinstance(data, np.ndarray) else data).cast("B")
        self._hasher.update(view)
        self._bytes += len(view)
        while view:
            view = view[os.write(self._file, view) :]

    def finish(self) -> Written:
        os.fsync(self._file)
        return Written(self._bytes, self._hasher.hexdigest())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)


def write_whole(path: Path, parts: Iterable[Buffer]) -> Written:
    """A new file of these parts."""
    with DurableFile(path) as file:
        for part in parts:
            file.write(part)
        return file.finish()


def read_flat(path: Path, layout: FlatLayout, vectors: Sequence[NDArray[np.float32]], expected: Written) -> None:
    """Fill the vectors, which make up the flat one, from a file that must be the one expected, to the bit.

    Raises BadFile; the vectors hold garbage then.
    """
    assert sum(x_P.size for x_P in vectors) == layout.count
    assert all(x_P.dtype == np.float32 for x_P in vectors)
    header, hasher = flat_header(layout), blake3()
    try:
        with path.open("rb", buffering=0) as file:
            found = file.read(len(header))
            if found != header:
                raise BadFile(f"{path.name} has other tensors than this model")
            hasher.update(found)
            for part in _parts(vectors):
                if not _fill(file, part):
                    raise BadFile(f"{path.name} is cut off")
                hasher.update(part)
            longer = bool(file.read(1))
    except OSError as error:
        raise BadFile(f"{path.name} cannot be read: {error.strerror}") from None
    if longer or hasher.hexdigest() != expected.blake3:
        raise BadFile(f"{path.name} is damaged: its digest is not the manifest's")


def check_whole(path: Path, expected: Written) -> None:
    """Raise BadFile unless the file is the one expected, to the bit."""
    hasher, size = blake3(), 0
    try:
        with path.open("rb", buffering=0) as file:
            while part := file.read(_READ_BYTES):
                hasher.update(part)
                size += len(part)
    except OSError as error:
        raise BadFile(f"{path.name} cannot be read: {error.strerror}") from None
    if (size, hasher.hexdigest()) != (expected.bytes, expected.blake3):
        raise BadFile(f"{path.name} is damaged: {size} bytes whose digest is not the manifest's")


def sync_folder(path: Path) -> None:
    """Make the names in a folder outlive a power cut."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _parts(vectors: Sequence[NDArray[np.float32]]) -> Iterator[memoryview]:
    for x_P in vectors:
        values = memoryview(x_P.data).cast("B")
        for start in range(0, len(values), _READ_BYTES):
            yield values[start : start + _READ_BYTES]


def _fill(file: FileIO, part: memoryview) -> bool:
    """Read until `part` is full; False at the end of the file."""
    while part:
        count = file.readinto(part)
        if not count:
            return False
        part = part[count:]
    return True
