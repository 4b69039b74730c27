"""What a node reports about itself: typed events, one JSON object a line, and a short line a person can read.

`EventLog` writes them, `read_events` follows a file that may still be growing. Every event has a unix `time` (seconds,
of the writer's clock: to be shown, never compared between machines) and its name under `event`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from p2p.errors import SwarmError


class EventFile(SwarmError):
    """The event file cannot be written."""


class Event(BaseModel):
    """Base of all events; readers ignore fields that they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    EVENT: ClassVar[str]

    def line(self) -> str:
        """For people; empty if there is nothing to say."""
        return ""


class Started(Event):
    EVENT = "started"
    peer: str
    port: int
    bootstrap: tuple[str, ...]
    """Multiaddrs that others can put into their bootstrap list."""

    def line(self) -> str:
        return f"node {self.peer} listens on port {self.port}; bootstrap peers for others: {','.join(self.bootstrap)}"


class Waiting(Event):
    EVENT = "waiting"
    peers: int
    min_peers: int

    def line(self) -> str:
        return f"waiting for members: {self.peers} of {self.min_peers} are here"


class PeerUp(Event):
    EVENT = "peer_up"
    peer: str

    def line(self) -> str:
        return f"peer {short(self.peer)} is up"


class PeerDown(Event):
    EVENT = "peer_down"
    peer: str
    reason: str

    def line(self) -> str:
        return f"peer {short(self.peer)} is down: {self.reason}"


class Synced(Event):
    """The node holds the run's state after `round` (-1: the initial state)."""

    EVENT = "synced"
    round: int
    bytes: int
    seconds: float
    donors: int

    def line(self) -> str:
        if not self.donors:
            return "starts from the initial parameters"
        return f"state of round {self.round}: {megabytes(self.bytes)} from {self.donors} donors in {self.seconds:.1f} s"


class DonorDropped(Event):
    """While fetching state: this donor is left alone for a while, the others give its share."""

    EVENT = "donor_dropped"
    peer: str
    reason: str

    def line(self) -> str:
        return f"donor {short(self.peer)} dropped: {self.reason}"


class Train(Event):
    """Progress of inner training; written about twice a second at most."""

    EVENT = "train"
    round: int
    inner_step: int
    loss: float


class Round(Event):
    """A round was committed and this node has applied it."""

    EVENT = "round"
    round: int
    node: str
    """The node's name."""
    peer: str
    loss: float | None
    """Mean training loss of this node's inner steps, nats per token; None if it did not train in this round."""
    tokens: int
    """This node's weight in the mean: tokens it trained on."""
    inner_steps: int
    train_seconds: float
    reduce_seconds: float
    """From the end of training, or of waiting for the others' plan, to the commit."""
    round_seconds: float
    """From the previous commit, or the node's first training step, to this commit: all of its time."""
    bytes_sent: int
    """At the sockets, TLS included, since the previous round event."""
    bytes_received: int
    transfer_bytes_sent: int = 0
    """The part of bytes_sent that went to newcomers as state."""
    contributors: int
    """Members whose pseudo-gradient is in the mean."""
    members: tuple[str, ...]
    """Peer ids of the round's view."""
    record: str
    """Hash of the committed record, hex; so are the digests of the state after the round."""
    theta_digest: str
    momentum_digest: str
    codec: str
    attempt: int

    def line(self) -> str:
        loss = "did not train" if self.loss is None else f"loss {self.loss:.3f}"
        tries = f", attempt {self.attempt}" if self.attempt else ""
        return (
            f"round {self.round} committed: {loss}, {self.contributors} of {len(self.members)} members in the mean, "
            f"train {self.train_seconds:.1f} s, reduce {self.reduce_seconds:.2f} s, "
            f"{megabytes(self.bytes_sent)} sent{tries}"
        )


class Evaluated(Event):
    """Held-out loss of the parameters after `round` (-1: the initial ones), nats per token."""

    EVENT = "evaluated"
    round: int
    held_out_loss: float

    def line(self) -> str:
        return f"held-out loss after round {self.round}: {self.held_out_loss:.3f}"


class Refused(Event):
    """A peer was refused, or refused this node."""

    EVENT = "refused"
    peer: str
    reason: str

    def line(self) -> str:
        return f"peer {short(self.peer)} refused: {self.reason}"


class Reducing(Event):
    """This node begins to reduce, as the plan of an attempt says."""

    EVENT = "reducing"
    round: int
    attempt: int
    coordinator: str
    members: int


class Attempt(Event):
    """A new attempt at a round begins."""

    EVENT = "attempt"
    round: int
    attempt: int
    reason: str

    def line(self) -> str:
        return f"round {self.round}, attempt {self.attempt}: {self.reason}"


class Straggler(Event):
    """A live member was not waited for any longer."""

    EVENT = "straggler"
    round: int
    peer: str

    def line(self) -> str:
        return f"round {self.round} goes on without {short(self.peer)}, which is not ready"


class RefusedPlan(Event):
    """A coordinator proposed what does not follow from what this node knows."""

    EVENT = "refused_plan"
    round: int
    peer: str
    reason: str

    def line(self) -> str:
        return f"round {self.round}: plan of {short(self.peer)} refused: {self.reason}"


class Behind(Event):
    """The swarm went on without this node; it fetches what it missed."""

    EVENT = "behind"
    reason: str

    def line(self) -> str:
        return f"behind the swarm: {self.reason}"


class Left(Event):
    """The node has said Leave; `round` is the last it took part in."""

    EVENT = "left"
    round: int

    def line(self) -> str:
        return f"left after round {self.round}"


class Notice(Event):
    """Something worth knowing that asks for nothing."""

    EVENT = "notice"
    message: str

    def line(self) -> str:
        return self.message


class Error(Event):
    EVENT = "error"
    message: str

    def line(self) -> str:
        return f"error: {self.message}"


EVENTS: dict[str, type[Event]] = {
    cls.EVENT: cls
    for cls in (
        *(Started, Waiting, PeerUp, PeerDown, Synced, DonorDropped, Train, Reducing, Round, Evaluated, Refused),
        *(Attempt, Straggler, RefusedPlan, Behind, Left, Notice, Error),
    )
}


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
            sys.stderr.write(f"{time.strftime('%H:%M:%S', time.localtime(now))} {text}\n")

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


def parse(line: bytes | str) -> tuple[float, Event] | None:
    """(time, event) of one line; None if it is none that this version knows."""
    try:
        fields = json.loads(line)
        return float(fields["time"]), EVENTS[fields["event"]].model_validate(fields)
    except (ValueError, KeyError, TypeError, ValidationError):
        return None


def short(peer: str) -> str:
    """The end of a peer id: the start is the same for all Ed25519 keys."""
    return peer[-6:]


def megabytes(count: float) -> str:
    return f"{count / 1e6:.2f} MB"
