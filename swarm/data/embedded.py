"""The embedded data set: text that every Python carries, so that a first run downloads nothing.

It is the language reference of `pydoc_data.topics` and the docstrings of the standard library, about 1.7 MB under the
PSF licence. Sources are read, never imported: importing all of the standard library has side effects. It differs
between Python versions; its digest is part of the run fingerprint, so nodes that carry other text refuse each other.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ops.digest import digest
from p2p.errors import SwarmError
from swarm.data.mix import EMBEDDED
from swarm.data.source import ArrayTokens, Source
from swarm.data.tokenizer import BYTES, EOS, VOCABULARY, encode

# What distributions package separately, patch, or generate per machine would make the text differ between two
# installations of one Python version.
_EXCLUDED = frozenset(("antigravity", "ensurepip", "pydoc_data", "site", "sysconfig", "test", "this", "venv")) | {
    *("curses", "dbm", "distutils", "idlelib", "lib2to3", "tkinter", "turtle", "turtledemo")
}
_EXCLUDED_FOLDERS = frozenset(("__pycache__", "test", "tests", "_vendor", "site-packages", "dist-packages"))

# The first thing after a header (a line that ends in a colon) or at the start of a file. Matching text is 30 times
# faster than parsing 9 MB of source, and for training text "almost always the docstring" is enough.
_DOCSTRING = re.compile(
    r'(?:\A(?:[ \t]*(?:\#[^\n]*)?\n)*|:[ \t]*(?:\#[^\n]*)?\n\s*)[rR]?(?P<quote>"""|\'\'\')(?P<text>.*?)(?P=quote)',
    re.DOTALL,
)

_MINIMUM_BYTES = 300_000
_SHORT = 80
_BLOCK = 4096
_HELD_OUT_EVERY = 32


class NoEmbeddedText(SwarmError):
    """This Python carries no standard library source or no language reference."""


@functools.cache
def load_embedded() -> Source:
    """Read, split and digest the embedded text: under a second the first time, then from memory.

    It is one document, without an end: its texts belong together and are short.
    """
    tokens_N = encode("\n\n".join(_texts()))
    if tokens_N.size < _MINIMUM_BYTES:
        raise NoEmbeddedText(
            f"the embedded data set has only {tokens_N.size} bytes here: this Python lacks pydoc_data or the sources "
            "of its standard library; install a complete Python (Debian: apt install libpython3-stdlib)"
        )
    train_N, held_out_N = split_held_out(tokens_N)
    return Source(
        name=EMBEDDED,
        train=ArrayTokens(train_N),
        held_out=ArrayTokens(held_out_N),
        vocabulary=VOCABULARY,
        eos=EOS,
        tokenizer=BYTES,
        digest=digest(tokens_N).hex(),
    )


def split_held_out(tokens_N: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(training, held-out): every 32nd block of 4 KiB is held out, so it samples the whole text, topics and modules."""
    held_N = (np.arange(tokens_N.size) // _BLOCK) % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
    return tokens_N[~held_N], tokens_N[held_N]


def docstrings(source: str) -> Iterator[str]:
    """The docstrings of one source file, dedented, in the order they stand there."""
    for match in _DOCSTRING.finditer(source):
        if text := inspect.cleandoc(match["text"]):
            yield text


def _texts() -> list[str]:
    """Every text once, in an order that depends on nothing but the text and its place in the library."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        texts = []
    else:
        texts = [topics[name].strip() for name in sorted(topics)]
    for path in _sources():
        texts.extend(docstrings(path.read_text(encoding="utf-8", errors="replace")))
    return _without_repeats(texts)


def _without_repeats(texts: list[str]) -> list[str]:
    """Drop paragraphs that stood before, short ones apart: a sixth of the held-out text would be in the training text.

    The topics quote whole sections of each other, and some modules have a twin (decimal and _pydecimal).
    """
    seen: set[str] = set()
    kept = []
    for text in texts:
        paragraphs = []
        for paragraph in text.split("\n\n"):
            key = " ".join(paragraph.split())
            if len(key) < _SHORT or key not in seen:
                paragraphs.append(paragraph)
                seen.add(key)
        if paragraphs:
            kept.append("\n\n".join(paragraphs))
    return list(dict.fromkeys(kept))


def _sources() -> Iterator[Path]:
    root = Path(os.__file__).parent
    for name in sorted(sys.stdlib_module_names - _EXCLUDED):
        if name.startswith("_sysconfigdata"):
            continue
        if (module := root / f"{name}.py").is_file():
            yield module
        elif (package := root / name).is_dir():
            yield from sorted(
                path
                for path in package.rglob("*.py")
                if not _EXCLUDED_FOLDERS.intersection(path.relative_to(package).parts)
            )
