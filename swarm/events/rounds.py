"""Events of the committed round."""

from __future__ import annotations

from swarm.events.event import Event, megabytes, short


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
