"""Tokenizer files beside an exported model, as `transformers.AutoTokenizer` loads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from p2p.errors import SwarmError

TOKENIZER = "tokenizer.json"
TOKENIZER_FILES = (TOKENIZER, "tokenizer_config.json", "special_tokens_map.json")


class NoTokenizer(SwarmError):
    """No tokenizer where one was said to be."""


def write_byte_tokenizer(folder: Path, context: int) -> None:
    """One token a byte, id and byte equal: byte-level BPE without a single merge."""
    vocabulary = {_character(byte): byte for byte in range(256)}
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    (folder / TOKENIZER).write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the files of another tokenizer: `source` is a tokenizer.json, or a folder with one. Raises NoTokenizer."""
    files = [source] if source.is_file() else [source / name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not any(file.name == TOKENIZER for file in files):
        raise NoTokenizer(f"no {TOKENIZER} in {source}: give a Hugging Face tokenizer's folder or its {TOKENIZER}")
    for file in files:
        shutil.copyfile(file, folder / file.name)


def _character(byte: int) -> str:
    """The character that stands for a byte in byte-level BPE (GPT-2): itself if it is printable and no space."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in printable:
        return chr(byte)
    return chr(256 + [other for other in range(256) if other not in printable].index(byte))
