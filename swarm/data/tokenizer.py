"""Text to tokens: bytes, which need no file, or a tokenizer.json of Hugging Face's `tokenizers`.

Shape suffix: N tokens.
"""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops.digest import digest
from swarm.data.source import DataError, TokenArray

BYTES = "bytes"
"""The name of the built-in tokenizer, also in place of a digest."""
VOCABULARY = 256
EOS = 0xFF
"""Ends a document of bytes: UTF-8 has no such byte, so no text contains it."""

# In place of a tokenizer_config.json: what ends documents in the tokenizers of well-known models.
_KNOWN_EOS = ("<|end_of_text|>", "<|endoftext|>", "</s>", "<eos>")


class Tokenizer(ABC):
    """eos ends each document and occurs in no text; bos, if any, begins each."""

    name: str
    digest: str
    vocabulary: int
    bos: int | None
    eos: int
    file: bytes | None
    """tokenizer.json, if there is one."""

    @abstractmethod
    def encode_all(self, texts: Sequence[str]) -> list[TokenArray]:
        """The tokens of each text, without bos and eos."""

    @abstractmethod
    def decode(self, tokens_N: TokenArray) -> str:
        """The text of these tokens, bos and eos included."""


class ByteTokenizer(Tokenizer):
    """One token is one byte of UTF-8."""

    def __init__(self) -> None:
        self.name, self.digest, self.vocabulary = BYTES, BYTES, VOCABULARY
        self.bos, self.eos, self.file = None, EOS, None

    def encode_all(self, texts: Sequence[str]) -> list[TokenArray]:
        return [encode(text) for text in texts]

    def decode(self, tokens_N: TokenArray) -> str:
        return decode(tokens_N.astype(np.uint8))


class FileTokenizer(Tokenizer):
    """A tokenizer.json; batches are encoded by all cores."""

    def __init__(self, content: bytes, name: str, bos: str | int | None, eos: str | int | None) -> None:
        """bos, eos: tokens or their text; without eos, that of a well-known model. Raises DataError."""
        tokenizers = _tokenizers()
        try:
            self._encoder = tokenizers.Tokenizer.from_buffer(content)
        # the package raises plain Exception for whatever it cannot parse
        except Exception as error:  # noqa: BLE001
            raise DataError(f"{name} is no tokenizer: {error}") from None
        self._encoder.no_truncation()  # some files ask for it, and it would drop text without a word
        self._encoder.no_padding()
        self._encoder.encode_special_tokens = True  # a text that mentions <|end_of_text|> does not end there
        self.name, self.file, self.digest = name, content, digest(content).hex()
        self.vocabulary: int = max(self._encoder.get_vocab(with_added_tokens=True).values()) + 1
        self.bos = None if bos is None else self._token(bos, "--bos")
        known = next((token for token in _KNOWN_EOS if self._encoder.token_to_id(token) is not None), None)
        if eos is None and known is None:
            raise DataError(f"{name} does not say which token ends a document: name it with --eos")
        self.eos = self._token(known if eos is None else eos, "--eos")

    def _token(self, text: str | int | None, option: str) -> int:
        if isinstance(text, int):
            return text
        token: int | None = self._encoder.token_to_id(text)
        if token is None:
            raise DataError(f"{self.name} has no token {text!r}: name one that it has with {option}")
        return token

    def encode_all(self, texts: Sequence[str]) -> list[TokenArray]:
        encoded = self._encoder.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, dtype=np.uint32) for one in encoded]

    def decode(self, tokens_N: TokenArray) -> str:
        text: str = self._encoder.decode(tokens_N.tolist(), skip_special_tokens=False)
        return text


def load_tokenizer(where: str, bos: str | None = None, eos: str | None = None) -> Tokenizer:
    """`bytes`, a tokenizer.json or a folder that has one, or OWNER/NAME of a model at Hugging Face.

    bos, eos: instead of those that the tokenizer_config.json beside it names. Raises DataError.
    """
    if where == BYTES:
        if bos or eos:
            raise DataError(f"--bos and --eos are for a tokenizer file; {BYTES} end a document with {EOS:#x}")
        return ByteTokenizer()
    path = Path(where).expanduser()
    if path.is_dir():
        path /= "tokenizer.json"
    if not path.exists():
        path = _from_hub(where)
    settings = path.with_name("tokenizer_config.json")
    try:
        content = path.read_bytes()
        config = json.loads(settings.read_bytes()) if settings.exists() else {}
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the tokenizer {where}: {error}") from None
    return FileTokenizer(content, where, bos or _named(config, "bos_token"), eos or _named(config, "eos_token"))


def _named(config: dict[str, Any], key: str) -> str | None:
    """A special token of a tokenizer_config.json: its text, or a table that has it."""
    value = config.get(key)
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _from_hub(where: str) -> Path:
    if where.count("/") != 1:
        raise DataError(f"there is no tokenizer {where}: give {BYTES}, a tokenizer.json, or OWNER/NAME of a model")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
    except ImportError:
        raise DataError("tokenizers of Hugging Face models need a package: pip install 'swarm-node[hf]'") from None
    try:
        with contextlib.suppress(EntryNotFoundError):  # then --eos, or that of a well-known model
            hf_hub_download(where, "tokenizer_config.json")
        return Path(hf_hub_download(where, "tokenizer.json"))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise DataError(f"cannot fetch the tokenizer of {where}: {error}") from None


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise DataError("a tokenizer.json needs the package tokenizers: pip install 'swarm-node[hf]'") from None
    return tokenizers


def encode(text: str) -> NDArray[np.uint8]:
    """The UTF-8 bytes of text, read-only: one token per byte."""
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)


def decode(tokens_N: NDArray[np.uint8]) -> str:
    """The text of these bytes; a character that was cut at either end shows as the replacement character."""
    return tokens_N.tobytes().decode("utf-8", errors="replace")
