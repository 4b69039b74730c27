"""metrics.jsonl: one line a round, with the names that docs/operating.md promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarm.events import Evaluated
from swarm.tracking.metrics import JsonLines, Metrics, MetricsFile
from tests.swarm.test_events import ROUND
from tests.test_project import read


def test_a_line_has_all_of_a_round(tmp_path: Path) -> None:
    file = JsonLines(tmp_path / "state" / "metrics.jsonl")
    held_out = Evaluated(round=2, held_out_loss=2.25)
    file.log(Metrics.of(1_700_000_000.12345, ROUND.model_copy(update={"mfu": 0.425}), held_out))
    file.log(Metrics.of(1_700_000_005.0, ROUND.model_copy(update={"loss": None, "round_seconds": 0.0}), None))
    file.close()
    first, second = [json.loads(line) for line in (tmp_path / "state" / "metrics.jsonl").read_text().splitlines()]
    assert list(first) == list(second) == list(Metrics.model_fields)
    assert first["time"] == 1_700_000_000.123
    assert (first["round"], first["loss"], first["tokens"], first["members"]) == (3, 2.5, 4096, 4)
    assert first["tokens_per_second"] == pytest.approx(4096 / 5.0)
    assert first["utilisation"] == pytest.approx(0.8)
    assert (first["mfu"], second["mfu"]) == (0.425, None)
    assert (first["held_out_loss"], first["held_out_round"]) == (2.25, 2)
    assert second["loss"] is None
    assert second["tokens_per_second"] == second["utilisation"] == 0.0


def test_a_tracker_gets_the_numbers_that_there_are() -> None:
    numbers = Metrics.of(1.0, ROUND.model_copy(update={"loss": None}), None).numbers()
    assert numbers["tokens"] == 4096.0
    assert not {"loss", "held_out_loss", "time", "round"} & numbers.keys()


def test_every_field_is_explained() -> None:
    page = read("docs/operating.md")
    assert [name for name in Metrics.model_fields if f"`{name}`" not in page] == []


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(MetricsFile, match="choose another --state-dir"):
        JsonLines(tmp_path / "state" / "metrics.jsonl")
