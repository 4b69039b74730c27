"""How messages travel: in order within each of a link's two lanes (small messages, payload), late, or never.

The hot path of a simulation: a round of 64 nodes is tens of thousands of calls of what is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2p.protocol.message import Message
from p2p.protocol.messages import decode, encode
from p2p.protocol.model import BadMessage
from swarm.simulate.virtual.chronicle import Chronicle
from swarm.simulate.virtual.host import Wire, WireState
from swarm.simulate.virtual.links import RETRANSMIT_TICKS
from swarm.simulate.virtual.timeline import Timeline

_OPEN = WireState.OPEN

Frame = tuple[Message, object]
"""A message with payload, and what the payload stands for."""


class Lanes:
    """Carries messages over wires. `end(wire, reason)`: the receiver of this wire closes its link."""

    def __init__(self, timeline: Timeline, chronicle: Chronicle, noise: list[int], *, encoded: bool = False) -> None:
        """`noise`: ticks to add to the delays of successive messages. `encoded`: messages travel as bytes."""
        self.timeline = timeline
        self.end: Callable[[Wire, str], None] = lambda _wire, _reason: None
        self._chronicle = chronicle
        self._noise = noise
        self._turn = 0
        self._encoded = encoded
        self._small = self._deliver_small  # bound once, not once a message
        self._bulk = self._deliver_bulk

    def send(self, wire: Wire, message: Message) -> None:
        """A small message; lost if the link ends before it arrives."""
        if wire.blocked:
            wire.held.append((message, None, 0))
            return
        when = max(self.timeline.tick + wire.delay + self._next_noise(), wire.last)
        wire.last = when
        self.timeline.bucket(when).append((self._small, wire, message))

    def broadcast(self, wires: Iterable[Wire], message: Message) -> None:
        """`send` to all, without the calls."""
        tick, turn, noise, deliver = self.timeline.tick, self._turn, self._noise, self._small
        buckets, bucket = self.timeline.buckets, self.timeline.bucket
        for wire in wires:
            if wire.blocked:
                wire.held.append((message, None, 0))
                continue
            turn += 1
            if turn >= len(noise):
                turn = 0
            when = tick + wire.delay + noise[turn]
            if when < wire.last:
                when = wire.last
            else:
                wire.last = when
            found = buckets.get(when)
            if found is None:
                found = bucket(when)
            found.append((deliver, wire, message))
        self._turn = turn

    def send_bulk(self, wire: Wire, message: Message, content: object, size: int) -> int:
        """A message with a payload of `size` bytes; returns the tick at which its last byte has left the sender."""
        source, target, tick = wire.source, wire.target, self.timeline.tick
        source.up_free = leaves = max(source.up_free, tick) + size / source.up
        if wire.blocked:
            wire.held.append((message, content, size))
            return int(leaves)
        arrives = max(leaves + wire.delay + self._next_noise(), target.down_free + size / target.down)
        target.down_free = arrives
        wire.bulk_last = when = max(int(arrives), wire.bulk_last)
        self.timeline.bucket(when).append((self._bulk, wire, (message, content)))
        return int(leaves)

    def unblock(self, wire: Wire) -> None:
        """Packets come through again: at the next retransmission, what was held is sent."""
        held, wire.held, wire.blocked = wire.held, [], False
        wire.last = max(wire.last, self.timeline.tick + RETRANSMIT_TICKS)
        wire.bulk_last = max(wire.bulk_last, wire.last)
        for message, content, size in held:
            if size:
                self.send_bulk(wire, message, content, size)
            else:
                self.send(wire, message)

    def _next_noise(self) -> int:
        self._turn += 1
        if self._turn >= len(self._noise):
            self._turn = 0
        return self._noise[self._turn]

    # --- arrivals ---

    def _deliver_small(self, wire: Wire, message: Message) -> None:
        target = wire.target
        if wire.state is not _OPEN or target.frozen or not target.running:
            self._trouble(wire, (self._small, wire, message))
        else:
            self.hand_over(wire, message, None)

    def _deliver_bulk(self, wire: Wire, frame: Frame) -> None:
        target = wire.target
        if wire.state is not _OPEN or target.frozen or not target.running:
            self._trouble(wire, (self._bulk, wire, frame))
        else:
            self.hand_over(wire, *frame)

    def hand_over(self, wire: Wire, message: Message, content: object) -> None:
        """The message is there."""
        self._chronicle.message(self.timeline.tick, wire, message)
        try:
            if self._encoded:
                message = decode(encode(message))
            wire.target.receive(wire.source.peer, message, content)
        except BadMessage as error:
            wire.target.accuse(wire.source.peer, str(error))
            self.end(wire, f"bad message: {error}")

    def _trouble(self, wire: Wire, event: tuple[Callable[..., None], Wire, object]) -> None:
        """What arrives at a frozen process waits in its socket; a damaged frame ends the link."""
        if wire.state == WireState.DEAD or not wire.target.running:
            return
        if wire.target.frozen:
            wire.target.backlog.append(event)
        else:
            self.end(wire, "bad message: not msgpack")
