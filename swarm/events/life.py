"""Events of a node's own life: its start, its state, its training, its end."""

from __future__ import annotations

from swarm.events.event import Event, megabytes, names


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


class Fetching(Event):
    """The node is being given the run's state."""

    EVENT = "fetching"
    chunks: int
    current: int
    of_chunks: int
    bytes: int
    donors: int

    def line(self) -> str:
        whom = f"{self.donors} donor{'s' if self.donors != 1 else ''}"
        chunks = f"{self.chunks} of {self.of_chunks} chunks, {self.current} of them up to date"
        return f"fetches state: {chunks}, {megabytes(self.bytes)} from {whom} so far"


class Synced(Event):
    """The node holds the run's state after `round` (-1: the initial state)."""

    EVENT = "synced"
    round: int
    bytes: int
    seconds: float
    donors: int
    peers: tuple[str, ...] = ()
    """The donors."""

    def line(self) -> str:
        if not self.donors:
            return "starts from the initial parameters" if self.round < 0 else f"has the state of round {self.round}"
        whom = names(self.peers) if 0 < len(self.peers) <= 4 else f"{self.donors} donors"
        return f"state of round {self.round}: {megabytes(self.bytes)} from {whom} in {self.seconds:.1f} s"


class Train(Event):
    """Progress of inner training; written about twice a second at most."""

    EVENT = "train"
    round: int
    inner_step: int
    loss: float


class Evaluated(Event):
    """Held-out loss of the parameters after `round` (-1: the initial ones), nats per token."""

    EVENT = "evaluated"
    round: int
    held_out_loss: float

    def line(self) -> str:
        return f"held-out loss after round {self.round}: {self.held_out_loss:.3f}"


class Left(Event):
    """The node has said Leave; `round` is the last it took part in."""

    EVENT = "left"
    round: int

    def line(self) -> str:
        return f"left after round {self.round}"


class RankLost(Event):
    """A local rank is dead, frozen or stuck: the node leaves and starts again."""

    EVENT = "rank_lost"
    rank: int | None
    """None where no one of them is to blame."""
    reason: str
    restarts: int
    """How often this has happened in a row."""

    def line(self) -> str:
        who = "the local ranks" if self.rank is None else f"local rank {self.rank}"
        return f"{who} {self.reason}: leaving the swarm to start again"


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
