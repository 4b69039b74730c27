"""Events between a node and one of its peers."""

from __future__ import annotations

from swarm.events.event import Event, names, short


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


class Unreachable(Event):
    """The redial after a lost link failed, or several dials of a peer that was never reached. Whether one that was
    linked is dead, others are asked."""

    EVENT = "unreachable"
    peer: str
    reason: str

    def line(self) -> str:
        return f"peer {short(self.peer)} cannot be reached: {self.reason}"


class Doubted(Event):
    """This node misses a peer that others hear: it is not dead."""

    EVENT = "doubted"
    round: int
    peer: str
    reason: str
    heard_by: tuple[str, ...]

    def line(self) -> str:
        return f"peer {short(self.peer)} is missed ({self.reason}), but {names(self.heard_by)} can hear it"


class Dead(Event):
    """A peer counts as dead from now on, and why."""

    EVENT = "dead"
    round: int
    peer: str
    reason: str

    def line(self) -> str:
        return f"peer {short(self.peer)} counts as dead: {self.reason}"


class Returned(Event):
    """A peer that was doubted or dead is there again."""

    EVENT = "returned"
    round: int
    peer: str
    was: str
    seconds: float

    def line(self) -> str:
        return f"peer {short(self.peer)} is back, {self.seconds:.1f} s after it was {self.was}"


class Forgotten(Event):
    """A peer has been gone for so long that what it once said counts no more; it is dialled all the same."""

    EVENT = "forgotten"
    peer: str

    def line(self) -> str:
        return f"peer {short(self.peer)} has long been gone: it would come back as a new one"


class Refused(Event):
    """A peer was refused, or refused this node."""

    EVENT = "refused"
    peer: str
    """Its address, if it did not prove who it is."""
    reason: str
    times: int = 1
    """How often it happened since it was told last (swarm.events.flood)."""

    def line(self) -> str:
        who = self.peer if ":" in self.peer else short(self.peer)
        often = f" ({self.times} times)" if self.times > 1 else ""
        return f"peer {who} refused: {self.reason}{often}"


class DonorDropped(Event):
    """While fetching state: this donor is left alone for a while, the others give its share."""

    EVENT = "donor_dropped"
    peer: str
    reason: str

    def line(self) -> str:
        return f"donor {short(self.peer)} dropped: {self.reason}"


class AnswerDropped(Event):
    """While giving state: a newcomer does not take what it asked for."""

    EVENT = "answer_dropped"
    peer: str
    reason: str

    def line(self) -> str:
        return f"newcomer {short(self.peer)} is not served any further: {self.reason}"
