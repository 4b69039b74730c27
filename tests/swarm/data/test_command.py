"""`swarm data`, as typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from swarm import cli
from tests.swarm.data.prepared import TEXTS, elsewhere, trained_tokenizer, write_jsonl


def swarm(*arguments: object) -> tuple[int, str]:
    """Exit status and all that was printed. What is a SwarmError, main() prints as one line."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    return result.exit_code, result.output + (str(result.exception) if result.exit_code else "")


def test_prepare_verify_and_inspect(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [*TEXTS, ""], field="body")
    tokenizer = trained_tokenizer(tmp_path / "tokenizer.json")
    status, said = swarm("data", "prepare", tmp_path / "mine", source, "--field", "body", "--tokenizer", tokenizer)
    assert status == 0
    assert "as u16; documents end with token 1" in said
    assert "left out    1 documents without text" in said
    for place in (tmp_path / "mine", elsewhere(tmp_path / "mine")):
        assert swarm("data", "verify", place)[0] == 0
        status, said = swarm("data", "inspect", place)
        assert status == 0
        assert "--- document 0, " in said
        assert "This is text number 0. " in said
    assert "This is text number" in swarm("data", "inspect", tmp_path / "mine", "--document", 200)[1]


def test_a_document_that_is_not_there_is_said(tmp_path: Path) -> None:
    swarm("data", "prepare", tmp_path / "mine", write_jsonl(tmp_path / "a.jsonl", TEXTS))
    assert "numbered from 0" in swarm("data", "inspect", tmp_path / "mine", "--document", 1000)[1]


def test_damage_is_named_and_ends_with_status_1(tmp_path: Path) -> None:
    swarm("data", "prepare", tmp_path / "mine", write_jsonl(tmp_path / "a.jsonl", TEXTS))
    (tmp_path / "mine" / "train-00000.ends").write_bytes(b"")
    status, said = swarm("data", "verify", tmp_path / "mine")
    assert status == 1
    assert "train-00000.ends has other bytes" in said


@pytest.mark.parametrize("written", ["\\n\\n", "\n\n"])
def test_a_separator_may_be_typed_with_escapes(tmp_path: Path, written: str) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n\nthree")
    status, said = swarm(
        "data", "prepare", tmp_path / "mine", tmp_path / "a.txt", "--separator", written, "--held-out", 0
    )
    assert status == 0
    assert "in 3 documents" in said
