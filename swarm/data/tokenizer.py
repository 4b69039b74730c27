"""Bytes as tokens: a vocabulary of 256 that needs no file and loses nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VOCABULARY = 256


def encode(text: str) -> NDArray[np.uint8]:
    """The UTF-8 bytes of text, read-only: one token per byte."""
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)


def decode(tokens_N: NDArray[np.uint8]) -> str:
    """The text of these bytes; a character that was cut at either end shows as the replacement character."""
    return tokens_N.tobytes().decode("utf-8", errors="replace")
