"""Numbers reach file and trackers, and whatever a tracker does, training does not notice."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from swarm.events import Error, Evaluated, Event, Round
from swarm.tracking import tracking as tracking_module
from swarm.tracking.metrics import JsonLines
from swarm.tracking.tracker import MissingTracker, Subject
from swarm.tracking.tracking import Tracking
from tests.swarm.test_events import ROUND

SECONDS = 20.0


def a_round(number: int) -> Round:
    return ROUND.model_copy(update={"round": number})


class Desk:
    """A `Tracking` whose one tracker is `behave`, called for every round."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, behave: Callable[[int], None]) -> None:
        self.path = path / "metrics.jsonl"
        self.told: list[Event] = []
        self.logged: list[tuple[int, Mapping[str, float]]] = []
        self.closed = 0
        desk = self

        class Fake:
            def __init__(self, *_: Any) -> None: ...

            def log(self, round: int, numbers: Mapping[str, float]) -> None:
                behave(round)
                desk.logged.append((round, numbers))

            def close(self) -> None:
                desk.closed += 1

        monkeypatch.setattr(tracking_module, "open_tracker", Fake)
        monkeypatch.setattr(tracking_module, "require", lambda names: None)
        subject = Subject("demo", "node0", "id", {}, path)
        self.tracking = Tracking(JsonLines(self.path), ("wandb",), subject, self.told.append, clock=lambda: 1.0)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def errors(self) -> list[str]:
        return [event.message for event in self.told if isinstance(event, Error)]


def test_file_and_tracker_get_every_round_and_the_held_out_loss_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, monkeypatch, lambda round: None)
    desk.tracking.round(a_round(1))
    desk.tracking.evaluated(Evaluated(round=1, held_out_loss=2.5))
    desk.tracking.round(a_round(2))
    desk.tracking.round(a_round(3))
    desk.tracking.evaluated(Evaluated(round=3, held_out_loss=2.0))
    desk.tracking.close()
    seen = [(line["round"], line["held_out_round"], line["held_out_loss"]) for line in desk.lines()]
    assert seen == [(1, None, None), (2, 1, 2.5), (3, None, None), (3, 3, 2.0)]
    assert [round for round, _ in desk.logged] == [1, 2, 3, 3]
    assert desk.logged[1][1]["held_out_loss"] == 2.5
    assert (desk.closed, desk.told) == (1, [])


def test_a_tracker_that_raises_is_told_once_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def behave(round: int) -> None:
        if round in (2, 3, 5):
            raise RuntimeError(f"503 in round {round}")

    desk = Desk(tmp_path, monkeypatch, behave)
    for number in range(1, 7):
        desk.tracking.round(a_round(number))
    desk.tracking.close()
    assert [round for round, _ in desk.logged] == [1, 4, 6]
    assert desk.errors() == [
        "tracker wandb: RuntimeError: 503 in round 2",
        "tracker wandb: RuntimeError: 503 in round 5",
    ]
    assert len(desk.lines()) == 6


def test_a_tracker_that_hangs_delays_nothing_and_its_backlog_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(tracking_module, "BACKLOG", 5)
    monkeypatch.setattr(tracking_module, "CLOSE_SECONDS", 0.1)
    desk = Desk(tmp_path, monkeypatch, lambda round: assert_waits(hangs))
    began = time.monotonic()
    for number in range(20):
        desk.tracking.round(a_round(number))
    desk.tracking.close()
    assert time.monotonic() - began < SECONDS / 4
    hangs.set()
    assert len(desk.lines()) == 20
    assert any("behind" in error for error in desk.errors())


def assert_waits(event: threading.Event) -> None:
    assert event.wait(SECONDS)


def test_a_full_disk_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, monkeypatch, lambda round: None)

    def full(metrics: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(desk.tracking._file, "log", full)
    for number in range(3):
        desk.tracking.round(a_round(number))
    desk.tracking.close()
    assert desk.errors() == ["metrics cannot be written: No space left on device"]
    assert len(desk.logged) == 3


def test_a_missing_package_stops_the_start_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    subject = Subject("demo", "node0", "id", {}, tmp_path)
    with pytest.raises(MissingTracker, match="pip install wandb"):
        Tracking(JsonLines(tmp_path / "metrics.jsonl"), ("wandb",), subject, print)
