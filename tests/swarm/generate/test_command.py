"""`swarm generate`: the same text from a checkpoint and from its export, and clear refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarm.export.command import export
from swarm.export.names import NotOurKind
from swarm.generate.command import NothingToContinue, generate
from swarm.generate.text import MissingTokenizer
from tests.swarm.export.models import BYTES, WIDE, checkpoint

HOW: dict[str, Any] = {"tokens": 30, "temperature": 0.8, "top_p": 0.9, "seed": 4}


def test_a_checkpoint_and_its_export_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    checkpoint(tmp_path, BYTES)
    generate(tmp_path, "def main(", **HOW)
    said.append(capsys.readouterr().out)
    export(tmp_path, tmp_path / "out")
    capsys.readouterr()
    generate(tmp_path / "out", "def main(", **HOW)
    said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0].startswith("def main(")
    assert len(said[0].encode()) > 20


def test_refusals(tmp_path: Path) -> None:
    checkpoint(tmp_path, WIDE)
    with pytest.raises(MissingTokenizer):
        generate(tmp_path, "a", **HOW)
    checkpoint(tmp_path / "bytes", BYTES)
    with pytest.raises(NothingToContinue, match="--prompt"):
        generate(tmp_path / "bytes", "", **HOW)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NotOurKind):
        generate(tmp_path, "a", **HOW)
