"""One attempt at the pipelined butterfly all-reduce, as one member sees it: who sends which piece, when, to whom.

Each contributor sends the codes of a piece to the piece's owner (a part); the owner, when it has the piece from all
contributors, reduces it and sends the result (its mean) to everybody. Nothing waits for a whole span. This class does
the book-keeping and checks what strangers send; bytes, kernels and sockets are the shell's (p2p/reduce/attempt.py):

    event of the shell                 what to look at afterwards
    ------------------------------     -------------------------------------------------
    start                              gos()
    encoded(piece), our codes exist    message_for(owner), ready()
    on_go, on_link_down                message_for(peer)
    on_link_up                         gos()
    expect, then arrived               ready(), finished_spans()
    reduced(piece), our mean exists    message_for(every peer), finished_spans(), gos()

Flow control: a member sends nothing to a peer before the peer's `Go` for this ballot, and then no more parts than the
Go has room for. An owner therefore never holds more than `window` values of others' parts, and a plan that reaches
members at different times costs neither memory nor a deadlock: the smallest unreduced piece of a span is always within
everybody's room. Means need no room, they go straight to where they stay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from p2p.protocol.messages import Go, Mean, Part, Record
from p2p.protocol.model import BadMessage
from p2p.protocol.pieces import PIECE_SIZE, Piece, PieceSize, SpanCut, send_order
from p2p.protocol.pieces import plan_spans as plan_spans

MIN_ROOM = 2
"""Pieces that every contributor may send ahead, however small the window."""


@dataclass(slots=True)
class _Intake:
    """Which of a sequence of pieces have come: `leading` of them without a gap, and some of the later ones."""

    total: int
    leading: int = 0
    ahead: set[int] = field(default_factory=set)
    arriving: set[int] = field(default_factory=set)

    def holds(self, index: int) -> bool:
        return index < self.leading or index in self.ahead

    def add(self, index: int) -> None:
        self.ahead.add(index)
        while self.leading in self.ahead:
            self.ahead.remove(self.leading)
            self.leading += 1

    @property
    def complete(self) -> bool:
        return self.leading == self.total


@dataclass(slots=True)
class _Peer:
    """What passes between us and one other member."""

    rank: int
    parts: _Intake
    """Pieces of our span, its codes; of length 0 if the peer does not contribute."""
    means: _Intake
    """Pieces of its span, reduced."""
    go: bool = False
    """The peer is ready for us on the present link."""
    room: int = 0
    parts_sent: int = 0
    means_sent: int = 0
    """How far into the log of our reduced pieces."""
    means_held: int = 0
    """Leading pieces that the peer said it holds: not to be sent again."""
    granted: int = -1
    """Room in the last Go we sent; -1 if the present link has seen none."""
    asked: int = -1
    """The most room we ever granted; -1 if none."""


class Butterfly:
    """See the module's text. All methods are quick; none may be called from two threads at once."""

    def __init__(
        self, draft: Record, me: str, count: int, block: int, window: int, limits: PieceSize = PIECE_SIZE
    ) -> None:
        """`draft` must seat `me`, have weight, and spans that tile `count` values at multiples of `block`.

        `window`: values of others' parts that this owner is willing to hold at a time.
        """
        assert draft.steps
        assert len(draft.spans) == len(draft.seats) + 1
        assert draft.spans[-1] == count
        self.ballot = draft.ballot
        self.members = draft.members
        self.rank = self.members.index(me)
        self.contributors = tuple(rank for rank, tokens in enumerate(draft.weights) if tokens)
        """Ranks of the members whose codes are in the mean."""
        self.weights = tuple(float(tokens) for tokens in draft.weights if tokens)
        """Of the contributors."""
        self.cuts = [
            SpanCut.of(rank, start, stop, block, limits)
            for rank, (start, stop) in enumerate(zip(draft.spans[:-1], draft.spans[1:], strict=True))
        ]
        self._contributes = self.rank in self.contributors
        mine = self.cuts[self.rank]
        others = max(1, len(self.contributors) - self._contributes)
        self._ahead = max(MIN_ROOM, window // (others * mine.size))
        self._peers = {
            peer: _Peer(rank, _Intake(len(mine) if rank in self.contributors else 0), _Intake(len(self.cuts[rank])))
            for rank, peer in enumerate(self.members)
            if rank != self.rank
        }
        self._missing = [len(self.contributors)] * len(mine)
        self._encoded = [_Intake(len(cut)) for cut in self.cuts]
        self._reduced = _Intake(len(mine))
        self._log: list[Piece] = []
        self._ready: deque[Piece] = deque()
        self._finished: deque[int] = deque(rank for rank, cut in enumerate(self.cuts) if not len(cut))
        self._means_held = 0

    # --- our own kernels ---------------------------------------------------------------------------------------------

    def to_encode(self) -> list[Piece]:
        """Our contribution's pieces in the order they are wanted; empty if we do not contribute."""
        return send_order(self.cuts, self.rank) if self._contributes else []

    def encoded(self, piece: Piece) -> None:
        """Our own codes of `piece` exist."""
        self._encoded[piece.owner].add(piece.index)
        if piece.owner == self.rank:
            self._count_part(piece)

    def ready(self, limit: int) -> list[Piece]:
        """Up to `limit` pieces of our span that all contributors' codes are there for, each returned once."""
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    def reduced(self, piece: Piece) -> None:
        """The mean of a piece of our span exists; its parts are no longer needed."""
        assert piece.owner == self.rank
        self._reduced.add(piece.index)
        self._log.append(piece)
        self._hold_mean(piece, self._reduced)

    def finished_spans(self) -> list[int]:
        """Ranks of the spans whose mean has become complete, each returned once."""
        ranks = list(self._finished)
        self._finished.clear()
        return ranks

    # --- what we send --------------------------------------------------------------------------------------------

    def gos(self) -> Iterator[tuple[str, Go]]:
        """Permissions to send out now. Call `go_failed` for one that found no link."""
        room = min(self._reduced.leading + self._ahead, len(self.cuts[self.rank]))
        for name, peer in self._peers.items():
            due = peer.granted < 0 or (peer.parts.total and room > peer.granted and self._worthwhile(room, peer))
            if due:
                peer.granted = peer.asked = room
                yield name, Go(ballot=self.ballot, room=room, parts=peer.parts.leading, means=peer.means.leading)

    def _worthwhile(self, room: int, peer: _Peer) -> bool:
        return room - peer.granted >= max(1, self._ahead // 4) or room == len(self.cuts[self.rank])

    def go_failed(self, name: str) -> None:
        """The last Go to this peer could not be sent."""
        self._peers[name].granted = -1

    def message_for(self, name: str) -> Part | Mean | None:
        """The next thing to send to this peer, each returned once; None if there is nothing at present.

        Parts first: others wait for them, while a mean is late for nobody before the last part has left.
        """
        peer = self._peers[name]
        if not peer.go:
            return None
        if peer.parts_sent < min(peer.room, self._encoded[peer.rank].leading):
            piece = self.cuts[peer.rank][peer.parts_sent]
            peer.parts_sent += 1
            return Part(ballot=self.ballot, start=piece.start, stop=piece.stop)
        while peer.means_sent < len(self._log):
            piece = self._log[peer.means_sent]
            peer.means_sent += 1
            if piece.index >= peer.means_held:
                return Mean(ballot=self.ballot, start=piece.start, stop=piece.stop)
        return None

    # --- what we receive -----------------------------------------------------------------------------------------

    def on_go(self, name: str, go: Go) -> None:
        """A permission of this ballot. On a new link it also says from where to repeat. Raises BadMessage."""
        peer = self._peer(name)
        cut = self.cuts[peer.rank]
        if go.room > len(cut) or go.parts > len(cut) or go.means > len(self.cuts[self.rank]):
            raise BadMessage("go: more pieces than its span has")
        if not peer.go:
            peer.go = True
            peer.parts_sent = min(peer.parts_sent, go.parts)
            peer.means_sent = 0
            peer.means_held = go.means
        peer.room = max(peer.room, go.room)

    def expect(self, name: str, message: Part | Mean) -> Piece | None:
        """Check the header of a piece of this ballot before its bytes are received.

        None: a piece that came already, to be dropped (it was repeated after its link broke). Raises BadMessage.
        """
        peer = self._peer(name)
        piece, intake = self._find(peer, message)
        if peer.asked < 0 or (isinstance(message, Part) and piece.index >= peer.asked):
            raise BadMessage(f"{message.KIND} [{piece.start}, {piece.stop}): sent without being asked")
        if intake.holds(piece.index) or piece.index in intake.arriving:
            return None
        intake.arriving.add(piece.index)
        return piece

    def arrived(self, name: str, message: Part | Mean) -> Piece | None:
        """The bytes of an expected piece are there, whole and valid. None if it was not expected (any more)."""
        peer = self._peer(name)
        piece, intake = self._find(peer, message)
        if piece.index not in intake.arriving:
            return None
        intake.arriving.remove(piece.index)
        intake.add(piece.index)
        if isinstance(message, Part):
            self._count_part(piece)
        else:
            self._hold_mean(piece, intake)
        return piece

    def _peer(self, name: str) -> _Peer:
        peer = self._peers.get(name)
        if peer is None:
            raise BadMessage("tensors from a peer that is no other member of this round")
        return peer

    def _find(self, peer: _Peer, message: Part | Mean) -> tuple[Piece, _Intake]:
        is_part = isinstance(message, Part)
        intake = peer.parts if is_part else peer.means
        piece = self.cuts[self.rank if is_part else peer.rank].find(message.start, message.stop)
        if piece is None:
            owner = "our span" if is_part else "the sender's span"
            raise BadMessage(f"{message.KIND} [{message.start}, {message.stop}): no piece of {owner}")
        if not intake.total:
            raise BadMessage(f"{message.KIND} from a member without weight")
        return piece, intake

    def _count_part(self, piece: Piece) -> None:
        self._missing[piece.index] -= 1
        if not self._missing[piece.index]:
            self._ready.append(piece)

    def _hold_mean(self, piece: Piece, intake: _Intake) -> None:
        self._means_held += piece.stop - piece.start
        if intake.complete:
            self._finished.append(piece.owner)

    # --- links ---------------------------------------------------------------------------------------------------

    def on_link_down(self, name: str) -> None:
        """What was under way to or from this peer may be lost; it is repeated after Go's on a new link."""
        peer = self._peers.get(name)
        if peer is not None:
            peer.go = False
            peer.granted = -1
            peer.parts.arriving.clear()
            peer.means.arriving.clear()

    # --- how far it is -------------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether we hold every mean."""
        return self._means_held == self.cuts[-1].stop

    @property
    def values_held(self) -> int:
        """Values whose mean we hold."""
        return self._means_held

    def waiting_on(self) -> tuple[str, ...]:
        """Members whose parts or means we miss, in rank order."""
        return tuple(name for name, peer in self._peers.items() if not (peer.parts.complete and peer.means.complete))
