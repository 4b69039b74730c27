"""Events of the committed round."""

from __future__ import annotations

from swarm.events.event import Event, megabytes, names, short


class Ready(Event):
    """This node has done its part of the training and waits for the plan; without tokens it only receives."""

    EVENT = "ready"
    round: int
    tokens: int
    samples: int


class Reducing(Event):
    """This node begins to reduce, as the plan of an attempt says."""

    EVENT = "reducing"
    round: int
    attempt: int
    coordinator: str
    members: int
    """How many take part, and below who they are."""
    seats: tuple[str, ...] = ()
    contributors: tuple[str, ...] = ()
    """Those whose pseudo-gradient goes into the mean, lost ones too."""
    values: int = 0
    """In the vector."""
    kept: int = 0
    """Values whose mean an earlier attempt has brought about already."""


class Attempt(Event):
    """This node coordinates and opens a new attempt at a round."""

    EVENT = "attempt"
    round: int
    attempt: int
    reason: str

    def line(self) -> str:
        return f"round {self.round}, attempt {self.attempt}: {self.reason}"


class Superseded(Event):
    """This node follows another coordinator from now on and has stopped the reduce that was under way."""

    EVENT = "superseded"
    round: int
    attempt: int
    """The one that goes on; `peer` coordinates it."""
    peer: str

    def line(self) -> str:
        return f"round {self.round}: stops its reduce, for {short(self.peer)} opens attempt {self.attempt}"


class Repaired(Event):
    """This node coordinates: the new attempt keeps what the last one has done, and does again what it has not."""

    EVENT = "repaired"
    round: int
    attempt: int
    lost: tuple[str, ...]
    segments: int
    values: int = 0
    """In the vector."""
    kept: int = 0
    """Values whose mean is there already."""

    def line(self) -> str:
        whom = f" without {names(self.lost)}" if self.lost else ""
        share = f", {100 * self.kept / self.values:.0f} % of the mean is kept" if self.values else ""
        return f"round {self.round}, attempt {self.attempt}: repairs the last one{whom}{share}"


class Adopted(Event):
    """This node coordinates and takes up a result that members have voted for: it may have been committed already."""

    EVENT = "adopted"
    round: int
    attempt: int
    holders: tuple[str, ...]
    missing: tuple[str, ...]
    """Those who have to be given the mean."""

    def line(self) -> str:
        rest = f"; the mean is missing at {names(self.missing)}" if self.missing else ""
        return f"round {self.round}, attempt {self.attempt}: adopts what {names(self.holders)} voted for{rest}"


class Excluded(Event):
    """This node coordinates and leaves a live member out of the round."""

    EVENT = "excluded"
    round: int
    peer: str
    reason: str

    def line(self) -> str:
        return f"round {self.round} leaves out {short(self.peer)}: {self.reason}"


class Straggler(Event):
    """A live member was not waited for any longer."""

    EVENT = "straggler"
    round: int
    peer: str
    reason: str = "it is not ready"

    def line(self) -> str:
        return f"round {self.round} goes on without {short(self.peer)}: {self.reason}"


class RefusedPlan(Event):
    """A coordinator proposed what does not follow from what this node knows."""

    EVENT = "refused_plan"
    round: int
    peer: str
    reason: str

    def line(self) -> str:
        return f"round {self.round}: plan of {short(self.peer)} refused: {self.reason}"


class RefusedMessage(Event):
    """A message about a round that this node does not follow, and why."""

    EVENT = "refused_message"
    round: int
    peer: str
    message: str
    reason: str

    def line(self) -> str:
        return f"round {self.round}: {self.message} of {short(self.peer)} refused: {self.reason}"


class Voted(Event):
    """This node holds the whole mean of an attempt and has signed the record that it makes."""

    EVENT = "voted"
    round: int
    attempt: int
    record: str
    """Hash of the record, hex."""


class Committed(Event):
    """This node has learned that a round is committed, and can apply it."""

    EVENT = "committed"
    round: int
    attempt: int
    record: str
    """Hash of the record, hex."""
    members: tuple[str, ...]
    weights: tuple[int, ...]
    """Of each member in the mean: tokens it trained on since what is averaged was averaged last."""
    lost: tuple[str, ...] = ()
    """Members that contributed and did not live to see it."""
    signatures: int
    fragment: int = 0
    """Which part of the vector was averaged, of so many:"""
    fragments: int = 1


class AskedForRecord(Event):
    """Others are a round further; this node asks for the record it has missed."""

    EVENT = "asked_for_record"
    round: int
    peer: str

    def line(self) -> str:
        return f"others have committed round {self.round}: asks {short(self.peer)} for its record"


class StoodStill(Event):
    """This node itself did nothing for a while: it was frozen, or its machine asleep or overloaded."""

    EVENT = "stood_still"
    round: int
    seconds: float

    def line(self) -> str:
        return f"round {self.round}: this node stood still for {self.seconds:.1f} s"


class HistoryReplaced(Event):
    """Records of this node gave way to those of a heavier lineage, from which it fetches the state."""

    EVENT = "history_replaced"
    after: int
    """The last round that both share."""
    records: int
    """How many of ours are dropped."""
    peer: str

    def line(self) -> str:
        return (
            f"history after round {self.after} replaced by that of {short(self.peer)}: {self.records} records dropped"
        )


class Behind(Event):
    """The swarm went on without this node; it fetches what it missed."""

    EVENT = "behind"
    reason: str
    round: int = -1
    """The round it was in."""

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
    """Tokens this node trained on in this round: its weight in the mean, where a round averages the whole vector."""
    inner_steps: int
    ahead_steps: int = 0
    """Of them, those taken while the round before was reduced."""
    train_seconds: float
    data_seconds: float = 0.0
    """The part of train_seconds in which training waited for data."""
    mfu: float | None = None
    """Share of the devices' peak arithmetic that training used, where that is known."""
    reduce_seconds: float
    """From the end of training, or of waiting for the others' plan, to the commit."""
    round_seconds: float
    """From the previous commit, or the node's first training step, to this commit: all of its time."""
    bytes_sent: int
    """At the sockets, as encrypted, since the previous round event."""
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
    fragment: int = 0
    """Which part of the vector was averaged, of so many:"""
    fragments: int = 1
    mean_cosine: float | None = None
    """rho, the cosine of this round's mean and the last one's; that and the next three by a sample of the vector, and
    None where they are not known (swarm/outer_health.py)."""
    outer_gain: float | None = None
    """How far the outer step went along the mean, in units of its norm: lr (1 + mu / (1 - mu rho))."""
    codec_error: float | None = None
    """|Q(x) - x| / |x| of what this node contributed."""
    agreement: float | None = None
    """Cosine of this node's pseudo-gradient and the mean."""
    memory_bytes: int = 0
    """Resident in this process; that and the next three must not grow from round to round."""
    descriptors: int = 0
    threads: int = 0
    tasks: int = 0
    """asyncio's."""

    def line(self) -> str:
        loss = "did not train" if self.loss is None else f"loss {self.loss:.3f}"
        waited = f" ({self.data_seconds:.1f} for data)" if self.data_seconds > 0.01 * self.train_seconds else ""
        speed = f" at {self.tokens / self.train_seconds:,.0f} tokens/s" if self.tokens and self.train_seconds else ""
        mfu = f", {100 * self.mfu:.1f} % MFU" if self.mfu is not None else ""
        tries = f", attempt {self.attempt}" if self.attempt else ""
        fragment = f" (fragment {self.fragment + 1} of {self.fragments})" if self.fragments > 1 else ""
        return (
            f"round {self.round}{fragment} committed: {loss}, "
            f"{self.contributors} of {len(self.members)} members in the mean, "
            f"train {self.train_seconds:.1f} s{waited}{speed}{mfu}, reduce {self.reduce_seconds:.2f} s, "
            f"{megabytes(self.bytes_sent)} sent{tries}"
        )
