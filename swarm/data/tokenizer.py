"""Bytes as tokens: a vocabulary of 256 that needs no file and loses nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BYTES = "bytes"
"""What this tokenizer is called in a manifest, in place of a digest."""
VOCABULARY = 256
EOS = 0xFF
"""Ends a document: UTF-8 has no such byte, so no text contains it."""


def encode(text: str) -> NDArray[np.uint8]:
    """The UTF-8 bytes of text, read-only: one token per byte."""
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)


def decode(tokens_N: NDArray[np.uint8]) -> str:
    """The text of these bytes; a character that was cut at either end shows as the replacement character."""
    return tokens_N.tobytes().decode("utf-8", errors="replace")
