"""A machine as the network sees it: where it is, whether it runs, and its ends of links."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import IntEnum

from p2p.protocol.message import Message
from swarm.simulate.virtual.timeline import Event


class WireState(IntEnum):
    DEAD = 0
    OPEN = 1
    POISONED = 2
    """The next frame is damaged on the way."""


class Wire:
    """One direction of a link, for as long as the link lives. What is on the way when it dies is lost."""

    __slots__ = ("blocked", "bulk_last", "delay", "held", "last", "name", "source", "state", "target")

    def __init__(self, source: Host, target: Host, delay: int) -> None:
        self.source = source
        self.target = target
        self.delay = delay
        self.name = source.index << 20 | target.index << 8
        """For the event log."""
        self.state = WireState.OPEN
        self.blocked = False
        """Packets are dropped on the way: TCP keeps sending them again."""
        self.held: list[tuple[Message, object, int]] = []
        """What TCP still has to bring over, with its content and size."""
        self.last = 0
        """Tick at which the last message sent arrives, in the lane of small messages and in that of payload."""
        self.bulk_last = 0


class Host(ABC):
    """One process on one machine; after a restart, another."""

    def __init__(self, index: int, peer: str, site: int, up: float, down: float) -> None:
        """`up`, `down`: bytes a tick."""
        self.index = index
        self.peer = peer
        self.site = site
        self.up = up
        self.down = down
        self.up_free = 0.0
        """Tick at which all that was given to the network has left."""
        self.down_free = 0.0
        self.side = 0
        """Of a partition."""
        self.running = True
        self.frozen = False
        self.gone_silently = False
        """It does not even refuse connections: its machine is gone."""
        self.backlog: list[Event] = []
        """What happened to it while it was frozen."""
        self.wires: dict[str, Wire] = {}
        """Its open links, as far as it knows, by peer."""

    @abstractmethod
    def receive(self, peer: str, message: Message, content: object) -> None:
        """A message arrived; `content` stands for its payload. Raises BadMessage."""

    @abstractmethod
    def accuse(self, peer: str, reason: str) -> None:
        """A peer sent what no honest peer sends; its link is about to be closed."""

    @abstractmethod
    def link_up(self, peer: str) -> None: ...

    @abstractmethod
    def link_down(self, peer: str, reason: str) -> None: ...

    @abstractmethod
    def unreachable(self, peer: str, reason: str) -> None: ...
