"""What the simulation knows of its nodes: their events, folded into one view each."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from swarm.events import (
    Behind,
    Dead,
    Evaluated,
    Event,
    EventReader,
    Fetching,
    Left,
    PeerDown,
    PeerUp,
    Reducing,
    Round,
    Started,
    Synced,
    Train,
    Unreachable,
    Waiting,
    printable,
    short,
)

NEWS_KEPT = 200


@dataclass
class NodeView:
    """One node as its events tell it."""

    name: str
    reader: EventReader
    inner_steps: int
    """H, to know when training ends and waiting for the others begins."""
    clock: float = 0.0
    """By how many seconds its wall clock, and so the time of its events, is wrong."""
    state: str = "starting"
    peer: str = ""
    port: int = 0
    addresses: tuple[str, ...] = ()
    """Where others find it; empty before it listens for the first time."""
    holds_state: bool = False
    """Whether it holds the run's state in its present life."""
    kept: int = 0
    """Of `rounds`, those before this one may belong to a lineage that it has left: it fetched another state since."""
    height: int = -1
    """The last round that its state holds, committed or fetched."""
    round: int | None = None
    inner_step: int = 0
    loss: float | None = None
    peers: set[str] = field(default_factory=set)
    rounds: list[Round] = field(default_factory=list)
    evaluations: list[Evaluated] = field(default_factory=list)
    bytes_sent: int = 0

    @property
    def committed(self) -> int:
        """Number of the last round it has committed; -1 if none."""
        return self.rounds[-1].round if self.rounds else -1

    def trained_in(self, round: int) -> bool:
        """Whether it has committed that round or a later one, and trained in it."""
        return self.committed >= round and self.rounds[-1].tokens > 0

    @property
    def tokens_per_second(self) -> float | None:
        """In its last round, training and all."""
        last = self.rounds[-1] if self.rounds else None
        return last.tokens / last.round_seconds if last and last.round_seconds > 0 else None

    def apply(self, event: Event) -> None:
        """Fold one event in."""
        match event:
            case Started():
                self.peer, self.port, self.addresses = event.peer, event.port, event.bootstrap
                self.holds_state = False
                self.peers.clear()
            case Waiting():
                self.state = "waiting"
            case Fetching():
                self.state = "fetching"
            case Synced():
                self.state, self.holds_state, self.height = "synced", True, event.round
                self.kept = len(self.rounds) if event.donors else self.kept
            case Behind():
                self.holds_state = False
            case PeerUp():
                self.peers.add(event.peer)
            case PeerDown():
                self.peers.discard(event.peer)
            case Train():
                self.round, self.inner_step, self.loss = event.round, event.inner_step, event.loss
                self.state = "training" if event.inner_step < self.inner_steps else "ready"
            case Reducing():
                self.state = "reducing"
            case Round():
                self.rounds.append(event)
                self.height = event.round
                self.round, self.inner_step, self.state = event.round, event.inner_steps, "committed"
                self.loss = event.loss if event.loss is not None else self.loss
                self.bytes_sent += event.bytes_sent
            case Evaluated():
                self.evaluations.append(event)
            case Left():
                self.state = "left"


@dataclass(frozen=True, slots=True)
class News:
    """One line of what happened: seconds since the simulation began, who (empty: the simulation itself), what."""

    seconds: float
    node: str
    text: str


class Board:
    """All nodes, and what happened lately."""

    def __init__(self, rounds: int | None, inner_steps: int) -> None:
        """rounds: to commit; None: as many as time allows."""
        self.rounds, self.inner_steps = rounds, inner_steps
        self.nodes: dict[str, NodeView] = {}
        self.news: deque[News] = deque(maxlen=NEWS_KEPT)
        self.commits: list[float] = []
        """When each new round was committed for the first time anywhere, by this machine's clock."""
        self.coordinator = ""
        """Peer id of who drives the newest attempt that a node told of."""
        self.dismissed: int | None = None
        """When all were told to leave: nobody has to commit a later round."""
        self._lost: set[tuple[str, str]] = set()
        """(what, peer): losses of peers that were told."""
        self._quiet: set[str] = set()
        self.told = 0
        """News so far, those no longer kept included."""
        self.began = self.heard = time.monotonic()
        """`heard`: when any node last got anything done."""
        self.ended: float | None = None

    def add(self, name: str, events: Path, clock: float = 0.0) -> NodeView:
        """A node starts, for the first time or again."""
        view = self.nodes.setdefault(name, NodeView(name, EventReader(events), self.inner_steps, clock))
        view.state, view.holds_state = "starting", False
        self._quiet.discard(name)
        return view

    def gone(self, name: str, state: str) -> None:
        """A node has ended, and its events are all read."""
        view = self.nodes[name]
        view.state, view.holds_state = state, False
        self._quiet.add(name)

    def seconds(self) -> float:
        """Since the beginning, until the end if that has been."""
        return (self.ended or time.monotonic()) - self.began

    def end(self) -> None:
        self.ended = time.monotonic()

    def tell(self, text: str, node: str = "") -> None:
        self.news.append(News(self.seconds(), node, printable(text)))
        self.told += 1

    def read(self) -> None:
        """Take in what the nodes have written since the last call."""
        for view in [view for name, view in self.nodes.items() if name not in self._quiet]:
            for at, event in view.reader.new():
                if isinstance(event, Round) and event.round > self.committed:
                    self.commits.append(at - view.clock)
                if isinstance(event, Reducing) and event.round > self.committed:
                    self.coordinator = event.coordinator
                view.apply(event)
                if isinstance(event, PeerUp):
                    self._lost = {(what, peer) for what, peer in self._lost if peer != event.peer}
                if isinstance(event, (Started, Synced, Train, Round)):
                    self.heard = time.monotonic()
                if text := self._worth_telling(view, event):
                    self.tell(text, view.name)

    @property
    def committed(self) -> int:
        """The newest round that any node has committed."""
        return max((view.committed for view in self.nodes.values()), default=-1)

    @property
    def stalls(self) -> list[float]:
        """Seconds from each new round's first commit to the next one's."""
        times = sorted(self.commits)
        return [after - before for before, after in pairwise(times)]

    def name_of(self, peer: str) -> str | None:
        return next((view.name for view in self.nodes.values() if view.peer == peer), None)

    def _worth_telling(self, view: NodeView, event: Event) -> str:
        """The event's line if it says something new; what all nodes see alike is told by the first only."""
        others = [other for other in self.nodes.values() if other is not view]
        match event:
            case Started() | PeerUp() | Train() | Reducing() | Unreachable():
                return ""
            case Round():
                return event.line() if all(event.round > other.committed for other in others) else ""
            case Evaluated():
                newest = all(event.round > told.round for other in others for told in other.evaluations)
                return event.line() if newest else ""
            case PeerDown() | Dead():
                if view.state == "left" or (event.EVENT, event.peer) in self._lost:
                    return ""
                self._lost.add((event.EVENT, event.peer))
        return self._named(event.line())

    def _named(self, text: str) -> str:
        """Nodes by their names, where a node knows peer ids only."""
        for view in self.nodes.values():
            if view.peer:
                text = text.replace(view.peer, view.name).replace(short(view.peer), view.name)
        return text
