"""What a fetch has done for it: see FetchCore.poll."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2p.protocol.donors import Request


@dataclass(frozen=True, slots=True)
class Ask:
    """Send `request.message` to `request.peer`."""

    request: Request


@dataclass(frozen=True, slots=True)
class Unask:
    """Tell the donor of this request that it need not answer."""

    request: Request


@dataclass(frozen=True, slots=True)
class Replay:
    """Bring a chunk to `round` with what we have: our own copy of the mean, or nothing where the round had no weight or
    left the chunk alone."""

    index: int
    round: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Told for the log: this donor is left alone for a while, and why."""

    peer: str
    reason: str
    lied: bool = field(default=False, compare=False)
    """Whether it is taken for a liar."""


Action = Ask | Unask | Replay | Drop
