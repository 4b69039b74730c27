"""How a round ended for a member."""

from __future__ import annotations

from dataclasses import dataclass

from ops.encoded import Encoded
from p2p.protocol.messages import Record, SignedRecord
from p2p.transfer.state import StateDigests


@dataclass(frozen=True)
class Committed:
    """The round is committed, and its outer step applied here."""

    signed: SignedRecord
    state: StateDigests
    """Of the state after the round."""
    mean: Encoded | None
    """What was applied; None if the round had no weight."""
    seconds: float
    """From our Ready until the outer step was applied."""

    @property
    def record(self) -> Record:
        return self.signed.record


@dataclass(frozen=True)
class Missed:
    """The swarm went on without us: `sync`, then take part in the next round."""

    reason: str


Outcome = Committed | Missed
