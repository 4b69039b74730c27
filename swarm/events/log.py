"""The file of events: one JSON object a line."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from p2p.errors import SwarmError
from swarm.events import checkpoints, life, peers, rounds
from swarm.events.event import Event, printable

EVENTS: dict[str, type[Event]] = {
    cls.EVENT: cls
    for cls in (
        *(
            life.Started,
            life.Waiting,
            life.Fetching,
            life.Synced,
            life.Train,
            life.Evaluated,
            life.Left,
            life.RankLost,
            life.Notice,
            life.Error,
        ),
        *(peers.PeerUp, peers.PeerDown, peers.Refused, peers.DonorDropped, peers.AnswerDropped),
        *(peers.Unreachable, peers.Doubted, peers.Dead, peers.Returned, peers.Forgotten),
        *(checkpoints.Checkpoint, checkpoints.Uploaded, checkpoints.CheckpointRefused, checkpoints.Resumed),
        *(rounds.Ready, rounds.Reducing, rounds.Voted, rounds.Committed, rounds.Round),
        *(rounds.Attempt, rounds.Superseded, rounds.Repaired, rounds.Adopted, rounds.Excluded, rounds.Straggler),
        *(rounds.RefusedPlan, rounds.RefusedMessage, rounds.Behind, rounds.AskedForRecord, rounds.HistoryReplaced),
        rounds.StoodStill,
    )
}


class EventFile(SwarmError):
    """The event file cannot be written."""


class EventLog:
    """Appends events to a file, each with one write, so that a killed node leaves no half of a line behind it.

    Calls are meant for one thread at a time; writing is a few microseconds into the page cache.
    """

    def __init__(self, path: Path, *, quiet: bool = False, clock: Callable[[], float] = time.time) -> None:
        """quiet: no lines for people on standard error. Raises EventFile."""
        self._quiet, self._clock = quiet, clock
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise EventFile(f"cannot write events to {path}: {error.strerror}; choose another --state-dir") from None

    def write(self, event: Event) -> None:
        now = self._clock()
        line = json.dumps({"time": round(now, 3), "event": event.EVENT} | event.model_dump(), separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")
        if not self._quiet and (text := event.line()):
            sys.stderr.write(f"{time.strftime('%H:%M:%S', time.localtime(now))} {printable(text)}\n")

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class EventReader:
    """Follows one event file; it need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path, self._offset = path, 0

    def new(self) -> Iterator[tuple[float, Event]]:
        """(time, event) of every line completed since the last call; lines that it does not know are skipped."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        complete = data.rfind(b"\n") + 1
        self._offset += complete
        for line in data[:complete].splitlines():
            if (event := parse(line)) is not None:
                yield event


def event_of(name: str, fields: Mapping[str, object]) -> Event:
    """The event of that name, e.g. from a p2p.protocol.effects.Note."""
    return EVENTS[name].model_validate(fields)


def parse(line: bytes | str) -> tuple[float, Event] | None:
    """(time, event) of one line; None if it is none that this version knows."""
    try:
        fields = json.loads(line)
        return float(fields["time"]), event_of(fields["event"], fields)
    except (ValueError, KeyError, TypeError, ValidationError):
        return None
