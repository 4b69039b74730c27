"""Events of checkpoints: written, uploaded, refused, taken back."""

from __future__ import annotations

from swarm.events.event import Event, megabytes


class Checkpoint(Event):
    """The state after `round` is on disk."""

    EVENT = "checkpoint"
    round: int
    path: str
    bytes: int
    seconds: float
    """In the background, beside training."""

    def line(self) -> str:
        return f"checkpoint of round {self.round}: {megabytes(self.bytes)} in {self.seconds:.2f} s, {self.path}"


class Uploaded(Event):
    """A checkpoint is in the remote store, too."""

    EVENT = "uploaded"
    round: int
    url: str
    seconds: float

    def line(self) -> str:
        return f"checkpoint of round {self.round} uploaded to {self.url} in {self.seconds:.1f} s"


class CheckpointRefused(Event):
    """A checkpoint could not be used; the next older one is tried."""

    EVENT = "checkpoint_refused"
    path: str
    reason: str

    def line(self) -> str:
        return f"checkpoint {self.path} refused: {self.reason}"


class Resumed(Event):
    """The node begins with the state of a checkpoint; who has a newer one may still give it the rest."""

    EVENT = "resumed"
    round: int
    path: str
    inner_steps: int | None
    """Steps of the inner optimizer that came back with it; None if it starts anew."""

    def line(self) -> str:
        return f"goes on from the checkpoint of round {self.round}, {self.path}"
