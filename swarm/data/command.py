"""What `swarm data` does, with progress on standard error and the outcome on standard output."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import typer
from rich.console import Console

from swarm.data.documents import Inputs
from swarm.data.folder import Folder
from swarm.data.manifest import DTYPES, TOKENIZER, Manifest, Split
from swarm.data.prepare import Counts, prepare
from swarm.data.shards import read_manifest
from swarm.data.source import DataError, TokenArray
from swarm.data.tokenizer import BYTES, ByteTokenizer, FileTokenizer, Tokenizer, load_tokenizer
from swarm.data.verify import verify

_LINE_SECONDS = 10.0
"""How often progress is told where nothing can be overwritten, as in a log."""
_SHOWN_DOCUMENTS = 3
_SHOWN_CHARACTERS = 300


class Reporter:
    """One line that is overwritten on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._status = self._console.status("") if self._console.is_terminal else None
        self._told = time.monotonic()

    def __call__(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._told > _LINE_SECONDS:
            self._told = time.monotonic()
            typer.echo(text, err=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        if self._status is None:
            yield
        else:
            with self._status:
                yield


def prepare_data(
    folder: Path,
    inputs: Inputs,
    tokenizer: str,
    bos: str | None,
    eos: str | None,
    held_out: float,
    shard_tokens: int,
) -> None:
    """Raises DataError."""
    loaded, reporter, began = load_tokenizer(tokenizer, bos, eos), Reporter(), time.monotonic()

    def progress(counts: Counts) -> None:
        rate = counts.tokens / max(1e-9, time.monotonic() - began)
        reporter(f"{counts.documents:,} documents, {counts.tokens:,} tokens ({rate:,.0f} a second)")

    with reporter.running():
        manifest, counts = prepare(
            folder.expanduser(), inputs, loaded, held_out=held_out, shard_tokens=shard_tokens, progress=progress
        )
    for line in _summary(manifest):
        typer.echo(line)
    if counts.empty:
        typer.echo(f"left out    {counts.empty:,} documents without text")
    typer.echo(f"took        {time.monotonic() - began:.1f} s")


def inspect_data(place: str, document: int | None) -> None:
    """Raises DataError."""
    folder = Folder(place)
    manifest = read_manifest(folder)
    tokenizer = _tokenizer_of(folder, manifest)
    if document is not None:
        typer.echo(tokenizer.decode(_document(folder, manifest, document)))
        return
    for line in _summary(manifest):
        typer.echo(line)
    for number in range(min(_SHOWN_DOCUMENTS, manifest.train.documents)):
        tokens_N = _document(folder, manifest, number)
        text = tokenizer.decode(tokens_N[: _SHOWN_CHARACTERS * 4])
        shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " ..."
        typer.echo(f"\n--- document {number}, {tokens_N.size:,} tokens\n{shown}")


def verify_data(place: str) -> None:
    """Raises DataError if there is no manifest, typer.Exit if anything differs."""
    folder, reporter = Folder(place), Reporter()
    with reporter.running():
        problems = list(verify(folder, lambda shard: reporter(f"checking {shard}")))
    for problem in problems:
        typer.echo(f"swarm: {problem}", err=True)
    if problems:
        raise typer.Exit(1)
    manifest = read_manifest(folder)
    tokens = manifest.train.tokens + manifest.held_out.tokens
    typer.echo(f"{place}: all {tokens:,} tokens are what the manifest says (digest {manifest.digest})")


def _summary(manifest: Manifest) -> Iterator[str]:
    tokenizer = manifest.tokenizer
    yield f"digest      {manifest.digest}"
    ends = f"documents end with token {tokenizer.eos}"
    begins = "" if tokenizer.bos is None else f"begin with token {tokenizer.bos} and "
    digest = "" if tokenizer.digest == BYTES else f" ({tokenizer.digest[:12]})"
    yield f"tokenizer   {tokenizer.name}{digest}, {tokenizer.vocabulary:,} tokens as {manifest.dtype}; {begins}{ends}"
    for name, split in (("train", manifest.train), ("held out", manifest.held_out)):
        yield f"{name:<12}{split.tokens:,} tokens in {split.documents:,} documents, {len(split.shards)} shards"


def _tokenizer_of(folder: Folder, manifest: Manifest) -> Tokenizer:
    if manifest.tokenizer.digest == BYTES:
        return ByteTokenizer()
    info = manifest.tokenizer
    return FileTokenizer(folder.read(TOKENIZER), info.name, info.bos, info.eos)


def _document(folder: Folder, manifest: Manifest, number: int) -> TokenArray:
    """The tokens of a training document, found through the index of ends."""
    split: Split = manifest.train
    for shard in split.shards:
        if number < shard.documents:
            ends = np.frombuffer(folder.read(shard.ends_file), dtype="<u8")
            start, stop = int(ends[number - 1]) if number else 0, int(ends[number])
            dtype = DTYPES[manifest.dtype]
            return np.frombuffer(
                folder.read(shard.tokens_file, start * dtype.itemsize, stop * dtype.itemsize), dtype=dtype
            )
        number -= shard.documents
    raise DataError(f"there are {split.documents:,} training documents, numbered from 0")
