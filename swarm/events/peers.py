"""Events between a node and one of its peers."""

from __future__ import annotations

from swarm.events.event import Event, short


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


class Refused(Event):
    """A peer was refused, or refused this node."""

    EVENT = "refused"
    peer: str
    reason: str

    def line(self) -> str:
        return f"peer {short(self.peer)} refused: {self.reason}"


class DonorDropped(Event):
    """While fetching state: this donor is left alone for a while, the others give its share."""

    EVENT = "donor_dropped"
    peer: str
    reason: str

    def line(self) -> str:
        return f"donor {short(self.peer)} dropped: {self.reason}"
