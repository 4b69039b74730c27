"""Documents out of files and data sets, one at a time: text, JSONL, Parquet, Hugging Face."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, Any, Literal

import fsspec
from fsspec.implementations.local import LocalFileSystem

from swarm.data.source import DataError

Format = Literal["auto", "text", "jsonl", "parquet"]
HUGGING_FACE = "hf:"
_CHUNK_BYTES = 1 << 20
_SUFFIXES: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
_COMPRESSED = frozenset((".gz", ".bz2", ".xz", ".zst"))


@dataclass(frozen=True, slots=True)
class Inputs:
    """What to read.

    places: files, folders (all files beneath, in order of their names), patterns with *, any of them at addresses that
    fsspec knows, or `hf:OWNER/NAME`. field: where JSONL, Parquet and Hugging Face have the text. separator: what stands
    between the documents of a text file; without it, a file is a document. split, subset: of Hugging Face data sets.
    """

    places: Sequence[str]
    format: Format = "auto"
    field: str = "text"
    separator: str | None = None
    split: str = "train"
    subset: str | None = None


def read_documents(inputs: Inputs) -> Iterator[str]:
    """The text of every document, in the order of the places; empty ones too. Raises DataError."""
    for place in inputs.places:
        if place.startswith(HUGGING_FACE):
            yield from map(_clean, _hugging_face(place.removeprefix(HUGGING_FACE), inputs))
        else:
            for path in _files(place):
                yield from map(_clean, _of_file(path, inputs))


def _files(place: str) -> list[str]:
    """Every file that a place means, with the place's scheme if it is on no disk of this machine."""
    try:
        fs, path = fsspec.core.url_to_fs(place)
        if "*" in path:
            found = sorted(name for name in fs.glob(path) if fs.isfile(name))
        elif fs.isdir(path):
            found = sorted(name for name in fs.find(path) if not PurePath(name).name.startswith("."))
        else:
            found = [path] if fs.exists(path) else []
    except (ImportError, ValueError, OSError) as error:
        raise DataError(f"cannot read {place}: {error}") from None
    if not found:
        raise DataError(f"cannot read {place}: there is no such file")
    return found if isinstance(fs, LocalFileSystem) else [fs.unstrip_protocol(name) for name in found]


def _of_file(path: str, inputs: Inputs) -> Iterator[str]:
    suffixes = [suffix for suffix in PurePath(path).suffixes if suffix not in _COMPRESSED]
    kind = inputs.format
    if kind == "auto":
        kind = _SUFFIXES.get(suffixes[-1], "text") if suffixes else "text"
    if kind == "parquet":
        return _of_parquet(path, inputs.field)
    return _of_jsonl(path, inputs.field) if kind == "jsonl" else _of_text(path, inputs.separator)


@contextmanager
def _opened(path: str, compression: str | None = "infer") -> Iterator[IO[bytes]]:
    try:
        with fsspec.open(path, "rb", compression=compression) as file:
            yield file
    except (OSError, ValueError, ImportError, EOFError) as error:
        raise DataError(f"cannot read {path}: {error}") from None


def _of_text(path: str, separator: str | None) -> Iterator[str]:
    with _opened(path) as file:
        decoder = codecs.getincrementaldecoder("utf-8")()
        parts: list[str] = []
        try:
            while data := file.read(_CHUNK_BYTES):
                parts.append(decoder.decode(data))
                if separator:
                    *whole, rest = "".join(parts).split(separator)
                    yield from whole
                    parts = [rest]
            parts.append(decoder.decode(b"", final=True))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text ({error.reason}): convert it first") from None
        yield "".join(parts)


def _of_jsonl(path: str, field: str) -> Iterator[str]:
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path}, line {number}: not JSON ({error})") from None
                yield _text_of(row, field, f"{path}, line {number}")


def _of_parquet(path: str, field: str) -> Iterator[str]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError("Parquet files need pyarrow: pip install 'swarm-node[parquet]'") from None
    with _opened(path, compression=None) as file:
        table = pyarrow.parquet.ParquetFile(file)
        if field not in table.schema_arrow.names:
            raise DataError(f"{path}: no column {field!r}; it has {', '.join(table.schema_arrow.names)} (see --field)")
        for number, batch in enumerate(table.iter_batches(batch_size=1024, columns=[field])):
            for text in batch.column(0).to_pylist():
                yield _text_of({field: text}, field, f"{path}, batch {number}")


def _hugging_face(name: str, inputs: Inputs) -> Iterator[str]:
    try:
        import datasets
    except ImportError:
        raise DataError("Hugging Face data sets need their package: pip install 'swarm-node[datasets]'") from None
    try:
        rows = datasets.load_dataset(name, inputs.subset, split=inputs.split, streaming=True)
        for number, row in enumerate(rows):
            yield _text_of(row, inputs.field, f"{HUGGING_FACE}{name}, row {number}")
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"cannot read {HUGGING_FACE}{name}: {error}") from None


def _text_of(row: Any, field: str, place: str) -> str:
    """A missing text (null) is an empty one."""
    if not isinstance(row, dict) or field not in row:
        has = f"it has {', '.join(map(str, row))} (see --field)" if isinstance(row, dict) else "it is no object"
        raise DataError(f"{place}: no field {field!r}; {has}")
    text = row[field]
    if text is not None and not isinstance(text, str):
        raise DataError(f"{place}: {field!r} holds no text but {type(text).__name__}")
    return text or ""


def _clean(text: str) -> str:
    """JSON can spell halves of surrogate pairs, which are no characters: they become the replacement character."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
