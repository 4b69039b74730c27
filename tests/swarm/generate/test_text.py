"""Text in, tokens out, and text again as soon as its characters are whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.export.tokenizer import write_byte_tokenizer
from swarm.generate.text import ByteTokenizer, FileTokenizer, MissingTokenizer, tokenizer_for


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    write_byte_tokenizer(path, 64)
    return path


@given(text=st.text(max_size=40))
def test_both_tokenizers_stream_what_was_said(folder: Path, text: str) -> None:
    for tokenizer in (ByteTokenizer(), FileTokenizer(folder / "tokenizer.json", 255)):
        tokens = tokenizer.encode(text)
        assert list(tokens) == list(text.encode())
        assert "".join(tokenizer.stream(tokens)) == text


def test_a_character_is_shown_when_it_is_whole(folder: Path) -> None:
    for tokenizer in (ByteTokenizer(), FileTokenizer(folder / "tokenizer.json", 255)):
        pieces = list(tokenizer.stream("aéb".encode()))
        assert [piece for piece in pieces if piece] == ["a", "é", "b"]
        assert "".join(tokenizer.stream("é".encode()[:1])) == "\ufffd"


def test_which_tokenizer_is_taken(tmp_path: Path, folder: Path) -> None:
    assert isinstance(tokenizer_for(tmp_path, 256, None, None), ByteTokenizer)
    assert isinstance(tokenizer_for(folder, 256, 7, None), FileTokenizer)
    assert tokenizer_for(tmp_path, 1000, 7, folder).eos == 7
    assert isinstance(tokenizer_for(tmp_path, 1000, 7, folder / "tokenizer.json"), FileTokenizer)
    with pytest.raises(MissingTokenizer, match="--tokenizer"):
        tokenizer_for(tmp_path, 1000, None, None)
    with pytest.raises(MissingTokenizer, match="--tokenizer"):
        tokenizer_for(tmp_path, 256, None, tmp_path / "nowhere")


def test_without_the_package_the_remedy_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingTokenizer, match="pip install tokenizers"):
        FileTokenizer(folder / "tokenizer.json", None)
