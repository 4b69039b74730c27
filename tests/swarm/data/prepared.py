"""Prepared data for tests: on this machine, and as if it lay elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import fsspec
from tokenizers import Tokenizer as Encoder
from tokenizers import decoders, models, pre_tokenizers, trainers

from swarm.data.documents import Inputs
from swarm.data.manifest import Manifest
from swarm.data.prepare import prepare
from swarm.data.tokenizer import ByteTokenizer, Tokenizer

TEXTS = [f"This is text number {number}. " * (1 + number % 7) for number in range(300)]


def write_jsonl(path: Path, texts: Iterable[str], field: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"id": n, field: text}) + "\n" for n, text in enumerate(texts)))
    return path


def prepared(
    folder: Path,
    texts: Sequence[str] = TEXTS,
    *,
    tokenizer: Tokenizer | None = None,
    shard_tokens: int = 5000,
    held_out: float = 0.1,
) -> Manifest:
    """Data of these documents in `folder`."""
    source = write_jsonl(folder.with_suffix(".jsonl"), texts)
    inputs = Inputs((str(source),))
    return prepare(folder, inputs, tokenizer or ByteTokenizer(), held_out=held_out, shard_tokens=shard_tokens)[0]


def elsewhere(folder: Path) -> str:
    """The same files in memory, at an address that is no path."""
    url = f"memory:/{folder}"
    fs, root = fsspec.core.url_to_fs(url)
    for path in folder.iterdir():
        fs.pipe_file(f"{root}/{path.name}", path.read_bytes())
    return url


def trained_tokenizer(path: Path) -> Path:
    """A small tokenizer.json of Hugging Face's kind."""
    encoder = Encoder(models.BPE())
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    encoder.train_from_iterator(TEXTS, trainer)
    encoder.save(str(path))
    return path
