"""`swarm data prepare`: documents to shards. One pass, bounded memory, all or nothing.

Everything is written into FOLDER.partial, which becomes FOLDER when it is whole; so a preparation that was torn in the
middle is never taken for data. What comes out depends on nothing but what went in: no time, path or number of cores
gets into it, so the digest is the same wherever the same data is prepared.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from swarm.data.documents import Inputs, read_documents
from swarm.data.manifest import MANIFEST, TOKENIZER, Manifest, TokenizerInfo, dtype_for
from swarm.data.shard_writer import ShardWriter, write_synced
from swarm.data.source import DataError, TokenArray
from swarm.data.tokenizer import Tokenizer

SHARD_TOKENS = 1 << 27
HELD_OUT = 0.005
LOCK = "lock"
_BATCH_CHARACTERS = 1 << 22
_BATCHES_AHEAD = 3
_PROGRESS_SECONDS = 0.5


@dataclass(slots=True)
class Counts:
    """What has been read and written so far."""

    documents: int = 0
    empty: int = 0
    """Documents without any text, which leave nothing behind."""
    characters: int = 0
    tokens: int = 0
    held_out_tokens: int = 0


Progress = Callable[[Counts], None]


def prepare(
    folder: Path,
    inputs: Inputs,
    tokenizer: Tokenizer,
    *,
    held_out: float = HELD_OUT,
    shard_tokens: int = SHARD_TOKENS,
    progress: Progress = lambda _: None,
) -> tuple[Manifest, Counts]:
    """Write `folder`, which must not exist or be empty. held_out: share of the documents that is never trained on.

    A document is held out by the digest of its text, so all its copies are on one side. Raises DataError.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{folder} is not empty: name another folder, or remove it first")
    try:
        with _partial(folder) as partial:
            manifest, counts = _write(partial, inputs, tokenizer, held_out, shard_tokens, progress)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}") from None
    return manifest, counts


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """Where to write: it becomes the folder in the end, or goes if there is no such end."""
    partial = folder.with_name(f"{folder.name}.partial")
    with _claimed(partial):
        for path in partial.iterdir():  # what a killed preparation left behind
            if path.name != LOCK:
                path.unlink()
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial)
            raise
        (partial / LOCK).unlink()
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
        _sync_folder(folder.parent)


@contextmanager
def _claimed(partial: Path) -> Iterator[None]:
    partial.mkdir(parents=True, exist_ok=True)
    with (partial / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"another preparation writes {partial}: wait for it, or name another folder") from None
        yield


def _write(
    folder: Path, inputs: Inputs, tokenizer: Tokenizer, held_out: float, shard_tokens: int, progress: Progress
) -> tuple[Manifest, Counts]:
    dtype = dtype_for(tokenizer.vocabulary)
    train = ShardWriter(folder, "train", dtype, shard_tokens)
    held = ShardWriter(folder, "held-out", dtype, shard_tokens)
    counts, shown, limit = Counts(), 0.0, int(held_out * 2**64)
    for texts, documents in _encoded(_batches(read_documents(inputs), counts), tokenizer):
        for text, tokens_N in zip(texts, documents, strict=True):
            document_N = _framed(tokens_N, tokenizer, text)
            kept_out = int.from_bytes(blake3(text.encode()).digest(length=8), "little") < limit
            (held if kept_out else train).add(document_N)
            counts.tokens += document_N.size
            counts.held_out_tokens += document_N.size if kept_out else 0
        if time.monotonic() - shown > _PROGRESS_SECONDS:
            shown = time.monotonic()
            progress(counts)
    manifest = Manifest(
        dtype=dtype,
        tokenizer=TokenizerInfo(
            name=tokenizer.name,
            digest=tokenizer.digest,
            vocabulary=tokenizer.vocabulary,
            bos=tokenizer.bos,
            eos=tokenizer.eos,
        ),
        train=train.close(),
        held_out=held.close(),
    )
    _check(manifest, counts, held_out)
    if tokenizer.file is not None:
        write_synced(folder / TOKENIZER, tokenizer.file)
    write_synced(folder / MANIFEST, manifest.to_json().encode())
    _sync_folder(folder)
    return manifest, counts


def _batches(texts: Iterable[str], counts: Counts) -> Iterator[list[str]]:
    """Texts with something in them, as many as fill an encoder's cores."""
    batch: list[str] = []
    size = 0
    for text in texts:
        counts.documents += 1
        counts.characters += len(text)
        if not text:
            counts.empty += 1
            continue
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encoded(batches: Iterator[list[str]], tokenizer: Tokenizer) -> Iterator[tuple[list[str], list[TokenArray]]]:
    """Each batch and its tokens; the next ones are read and encoded while one is written."""
    ahead: deque[tuple[list[str], Future[list[TokenArray]]]] = deque()
    with ThreadPoolExecutor(1, "encode") as pool:
        for batch in batches:
            ahead.append((batch, pool.submit(tokenizer.encode_all, batch)))
            if len(ahead) == _BATCHES_AHEAD:
                texts, future = ahead.popleft()
                yield texts, future.result()
        while ahead:
            texts, future = ahead.popleft()
            yield texts, future.result()


def _framed(tokens_N: TokenArray, tokenizer: Tokenizer, text: str) -> TokenArray:
    """A document: its beginning, if the tokenizer has one, its text, its end."""
    if tokenizer.eos in tokens_N:
        raise DataError(
            f"the text {text[:40]!r}... holds the token {tokenizer.eos}, which is to end documents: "
            "choose one with --eos that no text holds"
        )
    begin = [] if tokenizer.bos is None else [tokenizer.bos]
    framed_N: TokenArray = np.concatenate([begin, tokens_N, [tokenizer.eos]], dtype=np.uint32, casting="unsafe")
    return framed_N


def _check(manifest: Manifest, counts: Counts, held_out: float) -> None:
    written = manifest.train.tokens + manifest.held_out.tokens
    assert written == counts.tokens, f"{counts.tokens} tokens in, {written} out"
    if not manifest.train.tokens:
        raise DataError("nothing is left to train on: there is no text, or all of it was held out")
    if held_out and not manifest.held_out.tokens:
        raise DataError(
            f"none of the {counts.documents} documents was held out: raise --held-out, give more documents "
            "(--separator cuts a text file into some), or give --held-out 0 where another source has held-out text"
        )


def _sync_folder(path: Path) -> None:
    """Names are on disk when their folder is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
