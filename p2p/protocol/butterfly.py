"""One attempt at the pipelined butterfly all-reduce, as one member sees it: who sends which piece, when, to whom.

Each contributor sends the codes of a piece to the piece's owner (a part); the owner, when it has the piece from all
contributors, reduces it and sends the result (its mean) to everybody. Nothing waits for a whole span. This class does
the book-keeping and checks what strangers send; bytes, kernels and sockets are the shell's (p2p/reduce/attempt.py):

    event of the shell                 what to look at afterwards
    ------------------------------     -------------------------------------------------
    start                              presume(peer), gos(), ready(), finished()
    encoded(piece), our codes exist    message_for(owner), ready()
    on_go, on_link_down                message_for(peer)
    on_link_up                         gos()
    expect, then arrived               ready(), finished()
    reduced(piece), our mean exists    message_for(every peer), finished(), gos()

Flow control: a member sends a peer as many parts as the peer's `Go` for this ballot has room for; before that has come,
no more than everybody is bound to hold (`presume`), which saves half a round trip. So an owner never holds more than
`window` values of others' parts, and a plan that reaches members at different times costs neither memory nor a
deadlock: its first unreduced piece is always within everybody's room. Means need none, they stay where they go.

A further attempt begins with what the last one left (`carried_to`): nothing that is held is sent again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from p2p.protocol import bitmap
from p2p.protocol.carry import NOTHING, Carried, carry
from p2p.protocol.messages import Go, Mean, Part, Plan
from p2p.protocol.model import BadMessage
from p2p.protocol.routes import Routes, Stretch

MIN_ROOM = 2
"""Pieces that every contributor may send ahead, however small the window."""


@dataclass(slots=True)
class _Peer:
    """What passes between us and one other member."""

    rank: int
    theirs: list[int]
    """The pieces it owns."""
    parts_due: int
    """How many parts it still owes us."""
    means_due: int
    """How many means it still owes us."""
    go: bool = False
    """The peer is ready for us on the present link, or presumed to be."""
    presumed: bool = False
    """It has not yet said so."""
    room: int = 0
    next_part: int = 0
    """Place among its pieces of the next part to send."""
    next_mean: int = 0
    """How far into the log of our reduced pieces."""
    has_parts: int = 0
    """Places (bits) of its pieces for which it needs no part."""
    has_means: int = 0
    """Places (bits) of our pieces whose mean it holds."""
    granted: int = -1
    """Room in the last Go we sent; -1 if the present link has seen none."""
    asked: int = -1
    """The most room we ever granted; -1 if none."""
    arriving: set[tuple[type[Part] | type[Mean], int]] = field(default_factory=set)


class Butterfly:
    """See the module's text. All methods are quick; none may be called from two threads at once."""

    def __init__(
        self, plan: Plan, me: str, count: int, window: int, carried: Carried = NOTHING, unasked: int = 0
    ) -> None:
        """`plan` must seat `me`, have weight, and segments that tile `count` values. `window`: values of others' parts
        that an owner is willing to hold at a time. `unasked`: parts that every member takes of each other before it
        asks. Raises BadMessage for a plan that wants us to serve what we do not have.
        """
        self.plan = plan
        self.ballot = plan.ballot
        self.routes = Routes(plan, count)
        self.grid = self.routes.grid
        self.members = plan.draft.members
        self.rank = self.members.index(me)
        self.voters = plan.draft.voters
        self._mine = self.routes.pieces(self.rank)
        self._held = bytearray(len(self.grid))
        self._values_held = 0
        self._values_came = 0
        self._encoded = bytearray(len(self.grid))
        self._short = [len(stretch) for stretch in self.routes.stretches]
        self._parts: set[tuple[str, int]] = set()
        self._missing: dict[int, int] = {}
        self._reduced_leading = 0
        self._log: list[int] = []
        self._ready: deque[int] = deque()
        self._finished: list[int] = []
        self._peers = self._make_peers()
        self._unasked = unasked
        self._ahead = max(unasked, self._room_ahead(window))
        self._begin(carried)

    def _make_peers(self) -> dict[str, _Peer]:
        owed = dict.fromkeys(range(len(self.members)), 0)
        for stretch in self.routes.stretches:
            if stretch.owner == self.rank and not stretch.done:
                for rank in stretch.contributors:
                    owed[rank] += len(stretch)
        present = set(self.voters)
        peers = {}
        for rank, name in enumerate(self.members):
            # the lost are not waited for: what they contributed is carried, or is not in this plan
            if rank != self.rank and name in present:
                theirs = self.routes.pieces(rank)
                peers[name] = _Peer(rank, theirs, owed[rank], len(theirs))
        return peers

    def _room_ahead(self, window: int) -> int:
        others = max(1, sum(peer.parts_due > 0 for peer in self._peers.values()))
        return max(MIN_ROOM, window // (others * self.grid.piece))

    def _begin(self, carried: Carried) -> None:
        for piece in self._mine:
            stretch = self.routes.of(piece)
            if not stretch.done:
                self._missing[piece] = len(stretch.contributors)
        for piece in sorted(carried.means):
            self._hold(piece)
        for piece in self._mine:
            if self.routes.of(piece).done and not self._held[piece]:
                raise BadMessage("a plan in which we are to serve what we do not have")
        for name, piece in sorted(carried.parts):
            if piece in self._missing:
                self._take_part(name, piece)

    # --- what is held ------------------------------------------------------------------------------------------------

    def _hold(self, piece: int) -> None:
        """We hold the mean of this piece from now on."""
        assert not self._held[piece]
        self._held[piece] = 1
        self._values_held += self.grid.size(piece)
        index = self.routes.stretch_of[piece]
        self._short[index] -= 1
        if not self._short[index]:
            self._finished.append(index)
        stretch = self.routes.stretches[index]
        if stretch.owner != self.rank:
            if (peer := self._peers.get(self.members[stretch.owner])) is not None:
                peer.means_due -= 1
            return
        self._log.append(piece)
        if self._missing.pop(piece, 0):
            self._forgive(piece)
        while self._reduced_leading < len(self._mine) and self._held[self._mine[self._reduced_leading]]:
            self._reduced_leading += 1

    def _forgive(self, piece: int) -> None:
        """We have the mean, so nobody owes us a part of it."""
        for rank in self.routes.of(piece).contributors:
            name = self.members[rank]
            if (peer := self._peers.get(name)) is not None and (name, piece) not in self._parts:
                peer.parts_due -= 1

    def _take_part(self, name: str, piece: int) -> None:
        self._parts.add((name, piece))
        if (peer := self._peers.get(name)) is not None:
            peer.parts_due -= 1
        self._count_part(piece)

    def _count_part(self, piece: int) -> None:
        self._missing[piece] -= 1
        if not self._missing[piece]:
            self._ready.append(piece)

    # --- our own kernels ---------------------------------------------------------------------------------------------

    def to_encode(self) -> list[int]:
        """Our contribution's pieces in the order they are wanted; empty if we do not contribute."""
        wanted = self.routes.to_contribute(self.rank)
        return [piece for piece in wanted if not (self._held[piece] and self.routes.of(piece).owner == self.rank)]

    def encoded(self, piece: int) -> None:
        """Our own codes of `piece` exist."""
        self._encoded[piece] = 1
        if piece in self._missing:
            self._count_part(piece)

    def ready(self, limit: int) -> list[int]:
        """Up to `limit` pieces of ours that all contributors' codes are there for, each returned once."""
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    def reduced(self, piece: int) -> None:
        """The mean of a piece of ours exists; its parts are no longer needed."""
        assert self._missing.pop(piece) == 0
        self._hold(piece)
        for rank in self.routes.of(piece).contributors:
            self._parts.discard((self.members[rank], piece))

    def finished(self) -> list[int]:
        """Segments whose mean has become complete, each returned once."""
        indices, self._finished = self._finished, []
        return indices

    # --- what we send --------------------------------------------------------------------------------------------

    def gos(self) -> Iterator[tuple[str, Go]]:
        """Permissions to send out now. Call `go_failed` for one that found no link."""
        room = min(self._reduced_leading + self._ahead, len(self._mine))
        for name, peer in self._peers.items():
            first = peer.granted < 0
            if first or (peer.parts_due and room > peer.granted and self._worthwhile(room, peer)):
                peer.granted = peer.asked = room
                parts, means = (self._parts_had(name), self._means_had(peer)) if first else (b"", b"")
                yield name, Go(ballot=self.ballot, room=room, parts=parts, means=means)

    def _parts_had(self, name: str) -> bytes:
        had = [i for i, piece in enumerate(self._mine) if self._held[piece] or (name, piece) in self._parts]
        return bitmap.pack(had, len(self._mine)) if had else b""

    def _means_had(self, peer: _Peer) -> bytes:
        had = [i for i, piece in enumerate(peer.theirs) if self._held[piece]]
        return bitmap.pack(had, len(peer.theirs)) if had else b""

    def _worthwhile(self, room: int, peer: _Peer) -> bool:
        return room - peer.granted >= max(1, self._ahead // 4) or room == len(self._mine)

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
        if (piece := self._next_part(peer)) is not None:
            return Part(ballot=self.ballot, start=self.grid.start(piece), stop=self.grid.start(piece + 1))
        if peer.presumed:
            return None
        while peer.next_mean < len(self._log):
            piece = self._log[peer.next_mean]
            peer.next_mean += 1
            if not peer.has_means >> self.routes.place_of[piece] & 1:
                return Mean(ballot=self.ballot, start=self.grid.start(piece), stop=self.grid.start(piece + 1))
        return None

    def left(self, name: str) -> int:
        """Values that `message_for` may yet name for this peer."""
        peer = self._peers[name]
        return (len(peer.theirs) - peer.next_part + len(self._mine) - peer.next_mean) * self.grid.piece

    def _next_part(self, peer: _Peer) -> int | None:
        while peer.next_part < min(peer.room, len(peer.theirs)):
            piece = peer.theirs[peer.next_part]
            stretch = self.routes.of(piece)
            if stretch.done or not stretch.takes >> self.rank & 1 or peer.has_parts >> peer.next_part & 1:
                peer.next_part += 1
                continue
            if not self._encoded[piece]:
                return None
            peer.next_part += 1
            return piece
        return None

    # --- what we receive -----------------------------------------------------------------------------------------

    def presume(self, name: str) -> None:
        """The link to this peer is up: it takes some parts before its Go."""
        peer = self._peers[name]
        peer.go = peer.presumed = True
        peer.room = min(self._unasked, len(peer.theirs))

    def on_go(self, name: str, go: Go) -> None:
        """A permission of this ballot. On a new link it also says what need not be sent. Raises BadMessage."""
        peer = self._peer(name)
        if go.room > len(peer.theirs):
            raise BadMessage("go: more pieces than it owns")
        for data, size in ((go.parts, len(peer.theirs)), (go.means, len(self._mine))):
            if data and not bitmap.fits(data, size):
                raise BadMessage("go: holds pieces that do not exist")
        if not peer.go or peer.presumed:
            if not peer.go:
                peer.next_part = peer.next_mean = 0
            peer.go, peer.presumed = True, False
            peer.has_parts = int.from_bytes(go.parts, "little")
            peer.has_means = int.from_bytes(go.means, "little")
        peer.room = max(peer.room, go.room)

    def expect(self, name: str, message: Part | Mean) -> int | None:
        """Check the header of a piece of this ballot before its bytes are received.

        None: a piece that came already, to be dropped (it was repeated after its link broke). Raises BadMessage.
        """
        peer = self._peer(name)
        piece = self._find(peer, message)
        is_part = isinstance(message, Part)
        if peer.asked < 0 or (is_part and self.routes.place_of[piece] >= peer.asked):
            raise BadMessage(f"{_name(message)}: sent without being asked")
        key = (type(message), piece)
        if self._held[piece] or key in peer.arriving or (is_part and (name, piece) in self._parts):
            return None
        peer.arriving.add(key)
        return piece

    def arrived(self, name: str, message: Part | Mean) -> int | None:
        """The bytes of an expected piece are there, whole and valid. None if it was not expected (any more)."""
        peer = self._peer(name)
        piece = self._find(peer, message)
        key = (type(message), piece)
        if key not in peer.arriving:
            return None
        peer.arriving.remove(key)
        self._values_came += self.grid.size(piece)
        if isinstance(message, Part):
            self._take_part(name, piece)
        else:
            self._hold(piece)
        return piece

    def _peer(self, name: str) -> _Peer:
        if (peer := self._peers.get(name)) is None:
            raise BadMessage("tensors from a peer that is no other member of this round")
        return peer

    def _find(self, peer: _Peer, message: Part | Mean) -> int:
        is_part = isinstance(message, Part)
        piece = self.grid.find(message.start, message.stop)
        stretch = None if piece is None else self.routes.of(piece)
        if piece is None or stretch is None or stretch.owner != (self.rank if is_part else peer.rank):
            raise BadMessage(f"{_name(message)}: no piece of {'ours' if is_part else 'its sender'}")
        if is_part and (stretch.done or not stretch.takes >> peer.rank & 1):
            raise BadMessage(f"{_name(message)}: from a member that does not contribute to it")
        return piece

    # --- links ---------------------------------------------------------------------------------------------------

    def on_link_down(self, name: str) -> None:
        """What was under way to or from this peer may be lost; it is repeated after Go's on a new link."""
        if (peer := self._peers.get(name)) is not None:
            peer.go = peer.presumed = False
            peer.granted = -1
            peer.arriving.clear()

    # --- how far it is -------------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether we hold every mean."""
        return self._values_held == self.grid.count

    @property
    def values_held(self) -> int:
        """Values whose mean we hold."""
        return self._values_held

    @property
    def values_came(self) -> int:
        """Values of parts and means that others brought us in this attempt."""
        return self._values_came

    def waiting_on(self) -> tuple[str, ...]:
        """Members that owe us parts, by rank; if none does, those that owe us means: they may wait for others."""
        owing = [name for name, peer in self._peers.items() if peer.parts_due]
        return tuple(owing or [name for name, peer in self._peers.items() if peer.means_due])

    def leading_means(self) -> tuple[int, ...]:
        """For each segment, how many of its leading pieces we hold the mean of."""
        return tuple(self._leading(self._held[stretch.first : stretch.stop]) for stretch in self.routes.stretches)

    def leading_parts(self) -> tuple[tuple[int, ...], ...]:
        """For each segment of ours, how many leading pieces we have from each contributor, or need not have."""
        return tuple(tuple(self._counts(stretch)) for stretch in self.routes.stretches)

    def _counts(self, stretch: Stretch) -> Iterator[int]:
        for rank in stretch.contributors if stretch.owner == self.rank and not stretch.done else ():
            pieces = range(stretch.first, stretch.stop)
            yield self._leading([self._has_part(self.members[rank], piece) for piece in pieces])

    def _has_part(self, name: str, piece: int) -> bool:
        return bool(self._held[piece]) or (name, piece) in self._parts or name == self.members[self.rank]

    @staticmethod
    def _leading(flags: Collection[int]) -> int:
        return next((place for place, flag in enumerate(flags) if not flag), len(flags))

    def carried_to(self, plan: Plan) -> Carried:
        """What we hold that is of use in another plan of this round."""
        return carry(self.routes, self._held, self._parts, self.members[self.rank], plan)


def _name(message: Part | Mean) -> str:
    return f"{message.KIND} [{message.start}, {message.stop})"
