"""What the cores of the committed round ask their shell to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2p.protocol.ballot import Ballot
from p2p.protocol.message import Message
from p2p.protocol.messages import Plan, SignedRecord


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` to peer `to`; to every linked member if `to` is None."""

    to: str | None
    message: Message


@dataclass(frozen=True, slots=True)
class StartReduce:
    """Reduce as `plan` says, beginning with what earlier attempts of the round left, which this one replaces; answer
    with `RoundCore.on_reduced`."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class CancelReduce:
    """Stop the running reduce: its attempt can no longer commit. What it has is kept for the next one."""


@dataclass(frozen=True, slots=True)
class Apply:
    """The round is committed and we hold its mean: apply the outer step, answer with `RoundCore.on_applied`."""

    signed: SignedRecord
    ballot: Ballot
    """Of the attempt in which we got the mean."""


@dataclass(frozen=True, slots=True)
class Behind:
    """The swarm committed what we cannot apply from what we hold: fetch, then answer with `RoundCore.on_synced`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that an operator may want to know."""

    event: str
    fields: dict[str, object] = field(default_factory=dict)


Effect = Send | StartReduce | CancelReduce | Apply | Behind | Note
