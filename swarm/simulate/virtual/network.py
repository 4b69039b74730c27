"""Links between virtual hosts, as the mesh makes them: dialled, ended, redialled, cut.

A cut is either silent (packets vanish: TCP keeps sending what is unacknowledged, and gives up after a while) or refused
(links end at once, and every dial fails at once).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Literal

from p2p.channel.dialler import FIRST_PAUSE_SECONDS
from p2p.channel.greeting import HANDSHAKE_SECONDS
from p2p.channel.tuning import DEAD_AFTER_SECONDS
from swarm.simulate.virtual.host import Host, Wire, WireState
from swarm.simulate.virtual.lanes import Lanes
from swarm.simulate.virtual.links import Map
from swarm.simulate.virtual.timeline import ticks

Cut = Literal["silent", "refused"]
FIND_TICKS = (20, 400)
"""How long a new host takes to find and dial another."""
LONGEST_PAUSE_SECONDS = 15.0
"""Between two dials: the dialler would wait longer, but a peer that lives shows signs of it every few seconds."""
END_TICKS = 30
"""An end that no packet tells of is noticed within so many ticks."""


class Pair:
    """What is between two hosts."""

    __slots__ = ("cut", "dialling", "link", "pause", "untold")

    def __init__(self, cut: Cut | None) -> None:
        self.cut = cut
        self.link: tuple[Wire, Wire] | None = None
        self.dialling = False
        self.pause = 0
        self.untold: set[int] = set()
        """Hosts that lost the link and have not been told yet that a redial failed."""


class Network:
    """All hosts and all links between them."""

    def __init__(self, lanes: Lanes, where: Map, draws: random.Random) -> None:
        self.lanes = lanes
        self.timeline = lanes.timeline
        self.where = where
        self.hosts: dict[int, Host] = {}
        """The present process on each machine."""
        self.partition: Cut | None = None
        self._draws = draws
        self._pairs: dict[tuple[int, int], Pair] = {}
        lanes.end = self.refuse

    # --- hosts come and go ---

    def join(self, host: Host) -> None:
        """A process starts, finds the others and dials them."""
        self.hosts[host.index] = host
        for other in list(self.hosts.values()):
            if other is not host and other.running:
                pair = self._pair(host.index, other.index)
                pair.pause = 0
                self._dial_after(self._draws.randint(*FIND_TICKS), host.index, other.index)

    def stop(self, host: Host, how: Literal["killed", "vanished", "left"]) -> None:
        """The process ends. Killed: what it had sent may arrive, then its links end. Vanished: no packet says so."""
        host.running = False
        lose = how == "killed" and self._draws.random() < 0.5
        for index in self.hosts:
            pair = self._pair(host.index, index) if index != host.index else None
            if pair is None or pair.link is None:
                continue
            wire, back = pair.link if pair.link[0].source is host else pair.link[::-1]
            back.state, pair.link = WireState.DEAD, None
            if how == "vanished":
                self.timeline.after(self._timeout(), self._finish, (wire, back), "timed out")
                continue
            end = self.timeline.tick + wire.delay
            if lose:
                wire.state = WireState.DEAD
            else:
                end = max(end, wire.last, wire.bulk_last)
            reason = "closed by the peer: leaving" if how == "left" else "connection reset"
            self.timeline.at(end, self._finish, (wire, back), reason)

    def _finish(self, wires: tuple[Wire, Wire], reason: str) -> None:
        """The end of a stopped host's link reaches the other side."""
        gone, back = wires
        gone.state = WireState.DEAD
        self._notice(back, reason)

    def freeze(self, host: Host) -> None:
        host.frozen = True

    def thaw(self, host: Host) -> None:
        """What happened meanwhile happens now: timers first, as event loops do it, then what is in the sockets."""
        host.frozen = False
        backlog, host.backlog = host.backlog, []
        for one, other in ((True, False), (False, True)):
            for function, first, second in backlog:
                is_timer = not isinstance(first, Wire)
                if (is_timer and one) or (not is_timer and other):
                    self.timeline.after(0, function, first, second)

    # --- links end ---

    def refuse(self, wire: Wire, reason: str) -> None:
        """The receiver of this wire closes the link, and says why."""
        pair = self._pair(wire.source.index, wire.target.index)
        if pair.link is None or wire not in pair.link:
            return
        back = next(other for other in pair.link if other is not wire)
        wire.state = back.state = WireState.DEAD
        pair.link = None
        self._notice(back, reason)
        self.timeline.after(wire.delay, self._notice, wire, f"closed by the peer: {reason}")

    def end(self, one: int, other: int, reason: str) -> None:
        """The link of two hosts ends, for no fault of theirs; both notice soon, and dial again."""
        pair = self._pair(one, other)
        if pair.link is None:
            return
        for wire in pair.link:
            wire.state = WireState.DEAD
            self.timeline.after(self._draws.randint(0, END_TICKS), self._notice, wire, reason)
        pair.link = None

    def _notice(self, wire: Wire, reason: str) -> None:
        """The sender on this wire learns that it has no link any more."""
        host, peer = wire.source, wire.target.peer
        if not host.running or host.wires.get(peer) is not wire:
            return
        if host.frozen:
            host.backlog.append((self._notice, wire, reason))
            return
        del host.wires[peer]
        host.link_down(peer, reason)
        pair = self._pair(host.index, wire.target.index)
        pair.untold.add(host.index)
        pair.pause = 0
        self._dial_after(1, host.index, wire.target.index)

    # --- dialling ---

    def _dial_after(self, delay: int, one: int, other: int) -> None:
        pair = self._pair(one, other)
        if not pair.dialling:
            pair.dialling = True
            self.timeline.after(delay, self._dial, one, other)

    def _dial(self, one: int, other: int) -> None:
        """Connect two hosts; the first of them is the one that dials."""
        pair = self._pair(one, other)
        pair.dialling = False
        here, there = self.hosts[one], self.hosts[other]
        if pair.link is not None or not (here.running or there.running):
            return
        if here.running and there.running and pair.cut is None and not (here.frozen or there.frozen):
            self._establish(pair, here, there)
            return
        patience = 2 * self.where.distance(here.site, there.site) + 1
        if pair.cut == "silent" or here.frozen or there.frozen or here.gone_silently or there.gone_silently:
            patience = ticks(HANDSHAKE_SECONDS)
        pair.dialling = True
        self.timeline.after(patience, self._failed, one, other)

    def _failed(self, one: int, other: int) -> None:
        """A dial failed: tell those who lost the link, and try again later if both are there."""
        pair = self._pair(one, other)
        pair.dialling = False
        if pair.link is not None:
            return
        for index in (one, other):
            host, peer = self.hosts[index], self.hosts[other if index == one else one].peer
            if index in pair.untold and host.running and not host.frozen:
                pair.untold.discard(index)
                host.unreachable(peer, "the dial failed")
        if self.hosts[one].running and self.hosts[other].running:
            pair.pause = min(max(2 * pair.pause, ticks(FIRST_PAUSE_SECONDS)), ticks(LONGEST_PAUSE_SECONDS))
            self._dial_after(int(pair.pause * self._draws.uniform(0.7, 1.0)), one, other)

    def _establish(self, pair: Pair, dialler: Host, listener: Host) -> None:
        """The listener knows first; the dialler as soon as the last packet of the handshake is there."""
        delay = self.where.distance(dialler.site, listener.site)
        out, back = Wire(dialler, listener, delay), Wire(listener, dialler, delay)
        out.last = out.bulk_last = back.last = back.bulk_last = self.timeline.tick + delay
        pair.link = (out, back)
        pair.untold.clear()
        self.timeline.after(delay, self._up, out)  # before anything that the listener sends can arrive
        self._up(back)

    def _up(self, wire: Wire, _unused: object = None) -> None:
        """The sender on this wire learns that it has a link, in place of any that it still believed in."""
        host, peer = wire.source, wire.target.peer
        if wire.state == WireState.DEAD or not host.running:
            return
        if host.frozen:
            host.backlog.append((self._up, wire, None))
            return
        if host.wires.pop(peer, None) is not None:
            host.link_down(peer, "the peer connected anew")
        host.wires[peer] = wire
        host.link_up(peer)

    # --- cuts ---

    def cut(self, one: int, other: int, kind: Cut) -> None:
        """Nothing passes between two hosts, whoever else each of them reaches."""
        pair = self._pair(one, other)
        pair.cut = kind
        if pair.link is None:
            return
        if kind == "refused":
            self.end(one, other, "connection reset")
            return
        for wire in pair.link:
            wire.blocked = True
        self.timeline.after(self._timeout(), self._give_up, (one, other), pair.link)

    def _give_up(self, hosts: tuple[int, int], link: tuple[Wire, Wire]) -> None:
        """TCP's patience with a silent cut is at its end."""
        if self._pair(*hosts).link is link and link[0].blocked:
            self.end(*hosts, "timed out")

    def _timeout(self) -> int:
        return ticks(DEAD_AFTER_SECONDS + self._draws.uniform(0.0, 2.0))

    def split(self, sides: Iterable[int], kind: Cut) -> None:
        """A partition: these hosts on one side, all others on the other."""
        self.partition = kind
        here = set(sides)
        for host in self.hosts.values():
            host.side = int(host.index in here)
        for one in self.hosts.values():
            for other in self.hosts.values():
                if one.side < other.side and one.running and other.running:
                    self.cut(one.index, other.index, kind)

    def heal(self) -> None:
        """Every cut ends."""
        self.partition = None
        for host in self.hosts.values():
            host.side = 0
        for one, other in self._pairs:
            self.mend(one, other)

    def mend(self, one: int, other: int) -> None:
        """The cut between two hosts ends."""
        pair = self._pair(one, other)
        pair.cut = None
        for wire in pair.link or ():
            if wire.blocked:
                self.lanes.unblock(wire)

    def connected(self, one: Host, other: Host) -> bool:
        """Whether two hosts have a link that carries."""
        link = self._pair(one.index, other.index).link
        return link is not None and not link[0].blocked

    def _pair(self, one: int, other: int) -> Pair:
        key = (one, other) if one < other else (other, one)
        pair = self._pairs.get(key)
        if pair is None:
            a, b = self.hosts[one], self.hosts[other]
            pair = self._pairs[key] = Pair(self.partition if a.side != b.side else None)
        return pair
