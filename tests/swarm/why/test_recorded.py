"""Stories of rounds that real nodes lived through: recorded logs (without progress), told word for word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RECORDED = sorted((Path(__file__).parent / "recorded").iterdir())


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)
def test_the_story_of_a_recorded_round(folder: Path) -> None:
    command = [sys.executable, "-m", "swarm", "why", str(folder), "--round", "2"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == (folder / "story.txt").read_text()
    assert told.stderr == ""
