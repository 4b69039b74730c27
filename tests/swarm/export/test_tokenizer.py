"""Tokenizer files: AutoTokenizer gives the ids that training used."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from swarm.checkpoint.source import model_layout
from swarm.data.tokenizer import encode
from swarm.export.tokenizer import NoTokenizer, copy_tokenizer, write_byte_tokenizer
from swarm.export.write import write_model
from tests.swarm.export.models import BYTES, CONTEXT, theta_of


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_model(folder, theta_of(BYTES), model_layout(BYTES), BYTES, context=CONTEXT, eos=255)
    write_byte_tokenizer(folder, CONTEXT)
    return AutoTokenizer.from_pretrained(folder)


@given(text=st.text(max_size=60))
def test_ids_are_bytes_and_text_comes_back(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids == encode(text).tolist()
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("text", ["ÿ <|endoftext|> é", "  two  spaces\n\ttab ", "don't 'quote'", "日本語 🐝", "Ġ Ċ"])
def test_text_that_trips_tokenizers_up(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer(text)["input_ids"] == encode(text).tolist()
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_other_tokenizers_are_copied(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    write_byte_tokenizer(source, 99)
    copy_tokenizer(source, out)
    assert {path.name for path in out.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    (out / "tokenizer.json").unlink()
    copy_tokenizer(source / "tokenizer.json", out)
    assert (out / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    with pytest.raises(NoTokenizer, match=r"no tokenizer\.json"):
        copy_tokenizer(tmp_path, out)
