"""One attempt of a virtual reduce: what p2p.reduce.attempt does with tasks, done with timers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from p2p.protocol.ballot import Ballot
from p2p.protocol.butterfly import Butterfly
from p2p.protocol.messages import Go, Part
from p2p.protocol.messages import Mean as MeanMessage
from swarm.simulate.virtual.content import Codes, Mean, MeanBook, joint_digest

if TYPE_CHECKING:
    from swarm.simulate.virtual.reduce import Carrier

Parts = dict[tuple[str, int], Codes]
"""(contributor, piece of ours) -> its codes."""

ENCODE_TICKS = 20
"""Quantising our contribution, once a round."""
REDUCE_TICKS = 2
QUEUE_TICKS = 100
"""What a socket takes ahead of the link: an attempt that ends leaves no more than this behind."""
DIGEST_TICKS = 2


class Attempt:
    """Moves the content that the books of `core` speak of."""

    def __init__(
        self,
        core: Butterfly,
        means: dict[int, Mean],
        parts: Parts,
        codes: Codes | None,
        book: MeanBook,
        carrier: Carrier,
        value_bytes: float,
        done: Callable[[Ballot, tuple[bytes, ...], Mapping[int, Mean]], None],
    ) -> None:
        """`means` and `parts` hold what `core` says it was carried over from an earlier attempt."""
        self.core, self.stopped = core, False
        self.means, self.parts = means, parts
        self._codes, self._book, self._carrier, self._value_bytes, self._done = codes, book, carrier, value_bytes, done
        self._digests: dict[int, bytes] = {}
        self._reducing = False
        self._full = False
        """Our link has enough to do for now."""
        self._others = [peer for peer in core.voters if peer != core.members[core.rank]]

    def begin(self, *, encoded: bool) -> None:
        """`encoded`: our contribution is quantised already."""
        self.send_gos()
        self._reduce_ready()
        self._digest_finished()
        if encoded:
            self._encode(None, None)
        else:
            self._carrier.after(ENCODE_TICKS, self._encode)

    def _encode(self, _one: object, _other: object) -> None:
        if not self.stopped:
            for piece in self.core.to_encode():
                self.core.encoded(piece)
            self._reduce_ready()
            self._send_all()

    # --- our pieces ---

    def _reduce_ready(self) -> None:
        """Reduce soon whatever is complete by then."""
        if not self._reducing:
            self._reducing = True
            self._carrier.after(REDUCE_TICKS, self._reduce)

    def _reduce(self, _one: object, _other: object) -> None:
        self._reducing = False
        if self.stopped:
            return
        core = self.core
        pieces = core.ready(len(core.grid))
        for piece in pieces:
            stretch = core.routes.of(piece)
            codes = [self._part_of(core.members[rank], piece) for rank in stretch.contributors]
            self.means[piece] = self._book.mean(tuple(codes), stretch.weights)
            core.reduced(piece)
        if pieces:
            self.send_gos()
            self._send_all()
            self._digest_finished()

    def _part_of(self, peer: str, piece: int) -> Codes:
        if peer != self.core.members[self.core.rank]:
            return self.parts.pop((peer, piece))
        assert self._codes is not None
        return self._codes

    def _digest_finished(self) -> None:
        for index in self.core.finished():
            self._carrier.after(DIGEST_TICKS, self._digest, index)

    def _digest(self, index: int, _unused: object) -> None:
        if self.stopped:
            return
        stretches = self.core.routes.stretches
        pieces = range(stretches[index].first, stretches[index].stop)
        self._digests[index] = joint_digest(tuple(self.means[piece].digest for piece in pieces))
        if len(self._digests) == len(stretches):
            digests = tuple(self._digests[index] for index in range(len(stretches)))
            self._done(self.core.ballot, digests, self.means)

    # --- sending ---

    def send_gos(self) -> None:
        for peer, go in self.core.gos():
            if not self._carrier.send(peer, go):
                self.core.go_failed(peer)

    def _send_all(self) -> None:
        for place, peer in enumerate(self._others):
            self._send_to(peer)
            if self._full:
                self._others = self._others[place + 1 :] + self._others[: place + 1]
                return

    def _send_to(self, peer: str) -> None:
        grid = self.core.grid
        while not self._full and (message := self.core.message_for(peer)) is not None:
            piece = grid.find(message.start, message.stop)
            assert piece is not None
            content = self._codes if isinstance(message, Part) else self.means[piece]
            busy = self._carrier.send_bulk(peer, message, content, int(grid.size(piece) * self._value_bytes))
            if busy is None:
                return
            if busy > QUEUE_TICKS:
                self._full = True
                self._carrier.after(busy - QUEUE_TICKS // 2, self._go_on)

    def _go_on(self, _one: object, _other: object) -> None:
        self._full = False
        if not self.stopped:
            self._send_all()

    # --- receiving ---

    def on_go(self, peer: str, go: Go) -> None:
        """Raises BadMessage."""
        self.core.on_go(peer, go)
        self._send_to(peer)

    def take(self, peer: str, message: Part | MeanMessage, content: object) -> None:
        """A piece is there. Raises BadMessage."""
        if self.core.expect(peer, message) is None:
            return
        piece = self.core.arrived(peer, message)
        assert piece is not None
        if isinstance(content, Codes):
            self.parts[peer, piece] = content
            self._reduce_ready()
        else:
            assert isinstance(content, Mean)
            self.means[piece] = content
            self._digest_finished()
