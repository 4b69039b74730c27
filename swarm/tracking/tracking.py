"""Where a node's numbers go: the file at once, trackers from a thread of their own that may lag, fail or hang."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from swarm.events import Error, Evaluated, Event, Round
from swarm.tracking.metrics import JsonLines, Metrics
from swarm.tracking.tracker import Subject, Tracker, open_tracker, require

BACKLOG = 1000
"""Rounds that a tracker may lag behind before its news are dropped."""
CLOSE_SECONDS = 3.0
"""What trackers get to finish when the node ends."""

Tell = Callable[[Event], None]
"""Writes an event; called from any thread."""


class Tracking:
    """Fed from the event loop. No tracker can raise into it, nor delay it."""

    def __init__(
        self,
        file: JsonLines,
        names: tuple[str, ...],
        subject: Subject,
        tell: Tell,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises MissingTracker."""
        require(names)
        self._file, self._tell, self._clock = file, tell, clock
        self._held_out: Evaluated | None = None
        self._last: Metrics | None = None
        self._file_works = True
        self._workers = [_Worker(name, subject, tell) for name in names]

    def evaluated(self, event: Evaluated) -> None:
        """To be part of the next round's numbers."""
        self._held_out = event

    def round(self, event: Round) -> None:
        """A round was committed."""
        self._tell_all(Metrics.of(self._clock(), event, self._held_out))

    def _tell_all(self, metrics: Metrics) -> None:
        self._last, self._held_out = metrics, None
        self._write(metrics)
        for worker in self._workers:
            worker.put(metrics)

    def _write(self, metrics: Metrics) -> None:
        try:
            self._file.log(metrics)
        except OSError as error:
            if self._file_works:
                self._tell(Error(message=f"metrics cannot be written: {error.strerror}"))
            self._file_works = False
        else:
            self._file_works = True

    def close(self) -> None:
        """Wait a moment for what trackers still have to send.

        An evaluation that no round followed, as at the end of a run, makes a second line for the last round.
        """
        if self._held_out is not None and self._last is not None:
            loss, round = self._held_out.held_out_loss, self._held_out.round
            self._tell_all(self._last.model_copy(update={"held_out_loss": loss, "held_out_round": round}))
        self._file.close()
        for worker in self._workers:
            worker.stop()
        deadline = time.monotonic() + CLOSE_SECONDS
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))


class _Worker:
    """One tracker and its thread: a daemon, because a tracker that hangs must not keep the node from ending."""

    def __init__(self, name: str, subject: Subject, tell: Tell) -> None:
        self._name, self._subject, self._tell = name, subject, tell
        self._queue: queue.Queue[Metrics | None] = queue.Queue(BACKLOG)
        self._works = True
        self._thread = threading.Thread(target=self._run, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def put(self, metrics: Metrics | None) -> None:
        try:
            self._queue.put_nowait(metrics)
        except queue.Full:
            self._failed("it is a thousand rounds behind: its news are dropped")

    def stop(self) -> None:
        self.put(None)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        tracker: Tracker | None = None
        while True:
            metrics = self._queue.get()
            # A tracker may raise anything; training does not depend on it.
            try:
                if tracker is None and metrics is not None:
                    tracker = open_tracker(self._name, self._subject)
                if tracker is not None and metrics is not None:
                    tracker.log(metrics.round, metrics.numbers())
                elif tracker is not None:
                    tracker.close()
            except Exception as error:  # noqa: BLE001
                self._failed(f"{type(error).__name__}: {error}")
            else:
                self._works = True
            if metrics is None:
                return

    def _failed(self, reason: str) -> None:
        """Told once, and again when it has worked in between."""
        if self._works:
            self._tell(Error(message=f"tracker {self._name}: {reason}"))
        self._works = False
