from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from swarm.data import embedded
from swarm.data.embedded import NoEmbeddedText, docstrings, load_embedded, split_held_out
from swarm.data.source import Tokens
from swarm.data.tokenizer import EOS, decode, encode

_PRINT_DIGEST = (
    "import sys; from swarm.data.embedded import load_embedded; before = set(sys.modules);"
    "print(load_embedded().digest, *sorted(set(sys.modules) - before))"
)


def whole(tokens: Tokens) -> NDArray[np.uint8]:
    return tokens.read(0, tokens.count)


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_reads_the_same_text_and_imports_nothing_but_the_topics(hash_seed: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", _PRINT_DIGEST],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "LC_ALL": "C"},
    ).stdout.split()
    assert printed[0] == load_embedded().digest
    assert set(printed[1:]) <= {"pydoc_data", "pydoc_data.topics"}


def test_loading_takes_less_than_a_second_of_processor_time() -> None:
    before = time.process_time()
    load_embedded.__wrapped__()
    assert time.process_time() - before < 1.0


def test_there_is_a_megabyte_of_readable_text() -> None:
    data = load_embedded()
    assert data.train.count > 1_000_000
    assert 20_000 < data.held_out.count < data.train.count / 20
    tokens_N = whole(data.train)
    assert "Return" in decode(tokens_N)
    assert np.mean(tokens_N < 128) > 0.99


def test_held_out_blocks_are_never_trained_on() -> None:
    tokens_N = (np.arange(400_000) // 4096).astype(np.uint8)  # each block has a value of its own
    train_N, held_out_N = split_held_out(tokens_N)
    assert not set(train_N.tolist()) & set(held_out_N.tolist())
    assert train_N.size + held_out_N.size == tokens_N.size
    assert held_out_N.size > 0


def test_held_out_text_is_not_in_the_training_text_either() -> None:
    """Texts occur once, so a long stretch of a held-out block should be nowhere in what is trained on."""
    data = load_embedded()
    train, held_out_N = whole(data.train).tobytes(), whole(data.held_out)
    stretches = [held_out_N[start : start + 400].tobytes() for start in range(1000, held_out_N.size, 4096)]
    assert sum(stretch in train for stretch in stretches) <= 1


@pytest.mark.parametrize("module", ["argparse", "json/__init__", "difflib", "asyncio/events"])
def test_docstrings_are_those_the_parser_finds(module: str) -> None:
    source = (Path(inspect.getfile(ast)).parent / f"{module}.py").read_text(encoding="utf-8")
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    parsed = {ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)} - {None}
    found = set(docstrings(source))
    assert len(found & parsed) > 0.9 * len(parsed)
    assert len(found - parsed) < 0.1 * len(parsed)


def test_what_counts_as_a_docstring() -> None:
    source = (
        '#!/usr/bin/env python\n# comment\n"""Module."""\nx = """\nnot one\n"""\n'
        'def f(\n    a,\n):  # why\n    r"""Function\n\n        indented\n    """\n'
        "class C:\n\n    '''Class.'''\n"
    )
    assert list(docstrings(source)) == ["Module.", "Function\n\nindented", "Class."]


def test_a_python_without_its_sources_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_texts", lambda: ["short"])
    with pytest.raises(NoEmbeddedText, match="install a complete Python"):
        load_embedded.__wrapped__()


def test_the_text_is_what_is_digested() -> None:
    assert encode("x").tobytes() == b"x"
    data = load_embedded()
    assert len(bytes.fromhex(data.digest)) == 32
    assert EOS not in whole(data.train), "it is one document"
