"""The numbers of one round, under names that do not change, and their file: `metrics.jsonl`, one line a round."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from p2p.errors import SwarmError
from swarm.events import Evaluated, Round

METRICS = "metrics.jsonl"


class MetricsFile(SwarmError):
    """The file of metrics cannot be written."""


class Metrics(BaseModel):
    """What one node has to say of one committed round. None: there is nothing to say."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    time: float
    """Seconds since 1970 by this node's clock."""
    round: int
    loss: float | None
    """Mean training loss of this node's inner steps, nats per token."""
    tokens: int
    """That this node trained on in the round."""
    tokens_per_second: float
    """Of this node, over the whole round: training, reduce and waiting."""
    mfu: float | None
    """Share of the device's peak arithmetic that training used, where that peak is known."""
    utilisation: float
    """Share of the round's time that was spent in training."""
    inner_steps: int
    ahead_steps: int
    """Of them, those taken while the round before was reduced."""
    round_seconds: float
    train_seconds: float
    data_seconds: float
    """The part of it in which training waited for data."""
    reduce_seconds: float
    bytes_sent: int
    """At the sockets, since the round before."""
    bytes_received: int
    attempt: int
    """0: the first try was enough."""
    members: int
    contributors: int
    fragment: int
    """Which part of the model was averaged; 0 where it is all of it."""
    mean_cosine: float | None
    """Of the mean and the last one of the same fragment."""
    outer_gain: float | None
    """Of the outer step along the mean."""
    codec_error: float | None
    """Relative, of what this node contributed."""
    agreement: float | None
    """Cosine of this node's pseudo-gradient and the mean."""
    memory_bytes: int
    """Resident in the node's process."""
    descriptors: int
    threads: int
    tasks: int
    held_out_loss: float | None
    """Nats per token; newest result of this node since its last line."""
    held_out_round: int | None
    """The round whose parameters that was."""

    @classmethod
    def of(cls, time: float, event: Round, held_out: Evaluated | None) -> Metrics:
        fields = event.model_dump() | {"members": len(event.members)}
        seconds = event.round_seconds
        return cls(
            time=round(time, 3),
            tokens_per_second=event.tokens / seconds if seconds else 0.0,
            utilisation=min(1.0, event.train_seconds / seconds) if seconds else 0.0,
            held_out_loss=held_out.held_out_loss if held_out else None,
            held_out_round=held_out.round if held_out else None,
            **{name: fields[name] for name in fields.keys() & cls.model_fields.keys()},
        )

    def numbers(self) -> dict[str, float]:
        """What a tracker plots over rounds."""
        values = self.model_dump(exclude={"time", "round", "held_out_round"})
        return {name: float(value) for name, value in values.items() if value is not None}


class JsonLines:
    """Appends to the file, each line with one write."""

    def __init__(self, path: Path) -> None:
        """Raises MetricsFile."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise MetricsFile(f"cannot write metrics to {path}: {error.strerror}; choose another --state-dir") from None

    def log(self, metrics: Metrics) -> None:
        """Raises OSError."""
        os.write(self._file, metrics.model_dump_json().encode() + b"\n")

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
