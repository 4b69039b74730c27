"""`swarm export`: from whatever a person points at to a folder that is whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from swarm.checkpoint.manifest import THETA
from swarm.checkpoint.source import NoCheckpoint
from swarm.export import command
from swarm.export.command import NoRoom, export
from tests.swarm.export.models import BYTES, CONTEXT, WIDE, checkpoint, ours, theta_of


@pytest.mark.parametrize("pointed_at", ["checkpoint", "checkpoints", "state directory"])
def test_a_checkpoint_becomes_a_model_of_transformers(
    tmp_path: Path, pointed_at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint(tmp_path, BYTES)
    source = {"checkpoint": path, "checkpoints": path.parent, "state directory": tmp_path}[pointed_at]
    export(source, tmp_path / "out")
    assert "round 3" in capsys.readouterr().out
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    tokens_BL = tokenizer("the quick brown fox", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        mine = ours(BYTES, theta_of(BYTES))(tokens_BL)
        torch.testing.assert_close(model(tokens_BL).logits, mine, rtol=1e-5, atol=1e-5)
    assert model.config.eos_token_id == 255
    assert model.config.max_position_embeddings == CONTEXT


def test_the_newest_good_one_is_taken_and_the_damaged_one_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(tmp_path, BYTES, round=3)
    bad = checkpoint(tmp_path, BYTES, round=4)
    data = bytearray((bad / THETA).read_bytes())
    data[-1] ^= 1
    (bad / THETA).write_bytes(data)
    export(tmp_path, tmp_path / "out")
    said = capsys.readouterr()
    assert "round 3" in said.out
    assert f"{bad} passed over: {THETA} is damaged" in said.err


def test_nothing_to_export_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NoCheckpoint, match="no usable checkpoint"):
        export(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, BYTES)
    (tmp_path / "out").mkdir()
    export(path, tmp_path / "out")
    with pytest.raises(NoRoom, match="there already"):
        export(path, tmp_path / "out")


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(tmp_path, BYTES)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "write_byte_tokenizer", full)
    with pytest.raises(NoRoom, match="No space left"):
        export(path, tmp_path / "out")
    assert sorted(place.name for place in tmp_path.iterdir()) == ["chain-3", "checkpoints"]


def test_a_vocabulary_that_is_not_bytes_needs_its_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(checkpoint(tmp_path, WIDE), tmp_path / "out")
    assert "--tokenizer" in capsys.readouterr().out
    assert not (tmp_path / "out" / "tokenizer.json").exists()
