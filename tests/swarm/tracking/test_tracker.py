"""Each tracker is called as its package wants to be called; tensorboard files are read back."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from swarm.tracking.tracker import MissingTracker, Subject, open_tracker, require


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return Subject(run="demo", node="node0", id="0011-abcdef", config={"model": "demo"}, directory=tmp_path)


class Calls:
    """A fake module that remembers what was called."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.seen.append((name, arguments, options))
            return SimpleNamespace(log=self(f"{name}.log"), finish=self(f"{name}.finish"))

        return call


def test_wandb_gets_one_run_that_a_restart_goes_on_with(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=calls("init")))
    tracker = open_tracker("wandb", subject)
    tracker.log(4, {"loss": 2.0})
    tracker.close()
    (_, _, options), *rest = calls.seen
    assert options == {
        "project": "demo",
        "name": "node0",
        "id": "0011-abcdef",
        "config": {"model": "demo"},
        "dir": str(subject.directory),
        "resume": "allow",
    }
    assert rest == [("init.log", ({"loss": 2.0},), {"step": 4}), ("init.finish", (), {})]


def test_trackio_gets_the_same(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    module = SimpleNamespace(init=calls("init"), log=calls("log"), finish=calls("finish"))
    monkeypatch.setitem(sys.modules, "trackio", module)
    tracker = open_tracker("trackio", subject)
    tracker.log(4, {"loss": 2.0})
    tracker.close()
    assert calls.seen == [
        ("init", (), {"project": "demo", "name": "0011-abcdef", "config": {"model": "demo"}, "resume": "allow"}),
        ("log", ({"loss": 2.0},), {"step": 4}),
        ("finish", (), {}),
    ]


def test_tensorboard_files_hold_every_number(subject: Subject) -> None:
    tracker = open_tracker("tensorboard", subject)
    for round in (1, 2):
        tracker.log(round, {"loss": 3.0 - round, "tokens": 512.0})
    tracker.close()
    [file] = (subject.directory / "tensorboard").iterdir()
    assert scalars(file) == {(1, "loss"): 2.0, (1, "tokens"): 512.0, (2, "loss"): 1.0, (2, "tokens"): 512.0}


def scalars(file: Path) -> dict[tuple[int, str], float]:
    """What an event file says: records of length, its checksum, an Event, its checksum (the TFRecord format)."""
    data, found = file.read_bytes(), {}
    while data:
        (length,) = struct.unpack_from("<Q", data)
        event = Event.FromString(data[12 : 12 + length])
        found |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
        data = data[12 + length + 4 :]
    return found


@pytest.mark.parametrize(
    ("name", "package"), [("wandb", "wandb"), ("trackio", "trackio"), ("tensorboard", "tensorboardX")]
)
def test_a_package_that_is_missing_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingTracker, match=f"trackers: {name} .* pip install {package}"):
        require((name,))
