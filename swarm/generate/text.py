"""Between text and tokens, for a person who types and reads."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from p2p.errors import SwarmError
from swarm.data.tokenizer import EOS
from swarm.export.tokenizer import TOKENIZER


class MissingTokenizer(SwarmError):
    """Text cannot be turned into tokens."""


class Tokenizer(Protocol):
    @property
    def eos(self) -> int | None:
        """The token that ends a text."""

    def encode(self, text: str) -> Sequence[int]: ...

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """Pieces of text, each as soon as its characters are complete."""


class ByteTokenizer:
    """One token a byte."""

    eos: int | None = EOS

    def encode(self, text: str) -> Sequence[int]:
        return list(text.encode())

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token in tokens:
            yield decoder.decode(bytes((token,)))
        yield decoder.decode(b"", final=True)


class FileTokenizer:
    """A Hugging Face tokenizer.json, by the `tokenizers` package."""

    def __init__(self, file: Path, eos: int | None) -> None:
        """Raises MissingTokenizer."""
        try:
            from tokenizers import Tokenizer as Loaded
        except ImportError:
            raise MissingTokenizer(f"{file} needs the package tokenizers: pip install tokenizers") from None
        self._tokenizer = Loaded.from_file(str(file))
        self.eos = eos

    def encode(self, text: str) -> Sequence[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        seen: list[int] = []
        told = ""
        for token in tokens:
            seen.append(token)
            text = self._tokenizer.decode(seen)
            if not text.endswith("\ufffd"):  # a character that is not complete yet
                yield text[len(told) :]
                told = text
        yield self._tokenizer.decode(seen)[len(told) :]


def tokenizer_for(folder: Path, vocabulary: int, eos: int | None, given: Path | None) -> Tokenizer:
    """The one that was given, else the one in the folder, else bytes if the vocabulary is. Raises MissingTokenizer."""
    file = given / TOKENIZER if given is not None and given.is_dir() else given or folder / TOKENIZER
    if file.is_file():
        return FileTokenizer(file, eos)
    if given is None and vocabulary == 256:
        return ByteTokenizer()
    raise MissingTokenizer(f"no tokenizer at {file}: give the tokenizer.json of the data to --tokenizer")
