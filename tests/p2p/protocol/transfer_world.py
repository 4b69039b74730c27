"""Fetching in virtual time: cores on one side, desks with links of given speed on the other, no byte really moved.

The true chunk i after round r has the digest `truth(i, r)`; a liar's bytes have others.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from blake3 import blake3

from p2p.protocol.donors import Request
from p2p.protocol.fragments import Fragments
from p2p.protocol.holdings import NOTHING_HELD, Held, Source, choose_target
from p2p.protocol.serving import Desk, DeskLimits
from p2p.protocol.sizes import Sizes
from p2p.protocol.transfer import FetchCore
from p2p.protocol.transfer_actions import Ask, Drop, Unask
from p2p.protocol.transfer_messages import GetChunk, GetManifest
from tests.p2p.protocol.records import peer

MIB = 1 << 20
NO_LIMITS = DeskLimits()


def truth(index: int, round: int) -> bytes:
    return blake3(f"{index} {round}".encode()).digest()


@cache
def _manifest(chunks: int, round: int) -> list[bytes]:
    return [truth(index, round) for index in range(chunks)]


def root_of(digests: list[bytes]) -> bytes:
    return blake3(b"".join(digests)).digest()


@dataclass
class VirtualDonor:
    name: str
    rate: float = 100 * MIB
    """Bytes a second up, for all newcomers together."""
    dies_at: float = float("inf")
    mute_at: float = float("inf")
    lies_about: frozenset[type] = frozenset()
    keeps: int = 4
    lag: float = 0.0
    """Seconds after a commit at which its state moves."""
    limits: DeskLimits = NO_LIMITS
    free: float = 0.0
    given: int = 0
    waiting: dict[int, tuple[Newcomer, Request]] = field(default_factory=dict)
    """Questions at the desk, by the number of their message."""
    timer: float | None = None
    desk: Desk = field(init=False)

    def sit_down(self, state_bytes: int) -> None:
        self.desk = Desk(self.limits, state_bytes)

    @property
    def ends(self) -> float:
        """When it answers no more."""
        return min(self.dies_at, self.mute_at)


@dataclass
class World:
    chunks: int
    donors: list[VirtualDonor]
    commits: list[float] = field(default_factory=list)
    """Times at which rounds 0, 1, ... commit."""
    down: float = float("inf")
    """Bytes a second down, of each newcomer."""
    latency: float = 0.05
    vouch: bool = True
    """Whether records carry the root of the state before."""
    grows: float | None = None
    """Bytes a second that newcomers give to others once they have a state; None: they give nothing."""
    now: float = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    count: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for donor in self.donors:
            donor.sit_down(self.sizes.chunks * self.sizes.chunk_bytes)

    @property
    def sizes(self) -> Sizes:
        return Sizes(Fragments.whole(self.chunks * MIB), MIB, 8 * MIB, MIB + 4096)

    def add_donor(self, name: str) -> None:
        """A newcomer has a state, and gives it to others."""
        if self.grows is not None:
            donor = VirtualDonor(name, self.grows)
            donor.sit_down(self.sizes.chunks * self.sizes.chunk_bytes)
            self.donors.append(donor)

    def at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (time, next(self.count), event))

    def height(self, time: float) -> int:
        return sum(commit <= time for commit in self.commits) - 1

    def manifest(self, round: int) -> list[bytes]:
        return _manifest(self.chunks, round)

    def run(self, newcomers: list[Newcomer], until: float = 3600.0) -> None:
        for newcomer in newcomers:
            self.at(newcomer.starts, newcomer.tick)
        while self.events and not all(newcomer.finished for newcomer in newcomers):
            self.now, _, event = heapq.heappop(self.events)
            assert self.now < until, "the fetch hangs"
            event()

    # --- what donors do ---

    def serve(self, donor: VirtualDonor, newcomer: Newcomer, request: Request) -> None:
        """The question reached the donor."""
        if self.now >= donor.ends:
            return
        crowded = isinstance(request.message, GetChunk) and donor.desk.crowded(newcomer.name, request.size)
        if crowded or not donor.desk.offer(newcomer.name, request.message, request.size, self.now):
            self.at(self.now + self.latency, lambda: newcomer.refused(donor, request))
            return
        donor.waiting[id(request.message)] = (newcomer, request)
        self.pump(donor)

    def pump(self, donor: VirtualDonor) -> None:
        """Start what the desk lets start; one answer after the other passes the donor's link."""
        for _, message in donor.desk.overdue(self.now):
            one, question = donor.waiting.pop(id(message))
            self.at(self.now + self.latency, lambda one=one, question=question: one.refused(donor, question))
        while self.now < donor.ends and (job := donor.desk.take(self.now)) is not None:
            newcomer, request = donor.waiting.pop(id(job[1]))
            begin = max(donor.free, self.now)
            donor.free = begin + request.size / donor.rate
            donor.given += request.size
            if donor.free < donor.ends:
                self.at(donor.free, lambda one=newcomer, request=request: self._answered(donor, one.name, request))
                self.at(
                    donor.free + self.latency,
                    lambda one=newcomer, request=request, begin=begin: one.receive(donor, request, begin),
                )
            elif donor.dies_at < donor.mute_at:
                self.at(donor.dies_at + self.latency, lambda one=newcomer: one.lost(donor))
        delay = donor.desk.delay(self.now)
        if delay is not None and donor.timer is None:
            donor.timer = self.now + delay
            self.at(donor.timer, lambda: self._pump_again(donor))

    def _pump_again(self, donor: VirtualDonor) -> None:
        donor.timer = None
        self.pump(donor)

    def _answered(self, donor: VirtualDonor, name: str, request: Request) -> None:
        donor.desk.finished(name, request.message, request.size, self.now)
        self.pump(donor)


class Newcomer:
    """The part of a shell that the core needs, without bytes."""

    def __init__(self, world: World, name: str = "newcomer", held: list[Held] | None = None, starts: float = 0) -> None:
        self.world, self.name, self.starts = world, name, starts
        self.core = FetchCore(world.sizes, held or [NOTHING_HELD] * world.chunks, name.encode())
        self.free = 0.0
        self.finished: float | None = None
        self.bytes = 0
        self.replays = 0
        self.drops: list[Drop] = []
        self.local: set[int] = set()
        self.asked_at_once = 0

    def tick(self) -> None:
        if self.finished is None:
            self.step()
            self.world.at(self.world.now + 0.5, self.tick)

    def step(self) -> None:
        world, now = self.world, self.world.now
        alive = [donor for donor in world.donors if donor.dies_at > now]
        heights = {donor.name: world.height(now - world.latency - donor.lag) for donor in alive}
        sources = [
            Source(name, height, truth(-1, height), root_of(world.manifest(height)))
            for name, height in heights.items()
            if self.core.trusts(name, now)
        ]
        target = choose_target(sources)
        if target is not None:
            roots = {r: root_of(world.manifest(r)) for r in range(max(-1, target.round - 8), target.round)}
            self.core.aim(
                target,
                {source.peer: source.height for source in sources},
                roots=roots if world.vouch else {},
                local=self.local,
                height=target.round,
                now=now,
            )
        for action in self.core.poll(now):
            if isinstance(action, Ask):
                self._ask(action.request)
            elif isinstance(action, Unask):
                self._unask(action.request)
            elif isinstance(action, Drop):
                self.drops.append(action)
            else:
                self._replay(action.index, action.round, None, False)
        outstanding = sum(donor.outstanding_bytes for donor in self.core._donors.all())
        self.asked_at_once = max(self.asked_at_once, outstanding)
        if self.core.done and self.finished is None:
            self.finished = now
            world.add_donor(self.name)

    def _ask(self, request: Request) -> None:
        donor = next(donor for donor in self.world.donors if donor.name == request.peer)
        world = self.world
        world.at(world.now + world.latency, lambda: world.serve(donor, self, request))

    def _unask(self, request: Request) -> None:
        donor = next(donor for donor in self.world.donors if donor.name == request.peer)
        world = self.world
        world.at(world.now + world.latency, lambda: donor.desk.withdraw(self.name, request.id))

    def receive(self, donor: VirtualDonor, request: Request, read_at: float) -> None:
        """The answer reached the newcomer's link."""
        self.free = max(self.free + request.size / self.world.down, self.world.now)
        self.world.at(self.free, lambda: self._answer(donor, request, read_at))

    def lost(self, donor: VirtualDonor) -> None:
        self.core.lost(donor.name, "link lost", self.world.now)
        self.step()

    def refused(self, donor: VirtualDonor, request: Request) -> None:
        self.core.refused(donor.name, request.id, self.world.now)
        self.step()

    def _answer(self, donor: VirtualDonor, request: Request, read_at: float) -> None:
        world, now, message = self.world, self.world.now, request.message
        height = world.height(read_at - donor.lag)
        lie = type(message) in donor.lies_about
        oldest = height - donor.keeps
        if not isinstance(message, GetChunk) and not oldest < request.round <= height:
            self.refused(donor, request)
            return
        arrived = self.core.arrived(donor.name, request.id, now)
        if arrived is None:
            return
        self.bytes += request.size
        if isinstance(message, GetManifest):
            digests = world.manifest(request.round)
            self.core.manifest(request, digests, root_of(digests) if not lie else bytes(32))
        elif isinstance(message, GetChunk):
            digest = bytes(32) if lie else truth(request.index, height)
            held = self.core.judge_chunk(request, height, digest)
            if held is not None:
                self.core.settle(request.index, held)
        else:
            self._replay(request.index, request.round, request, lie)
        self.step()

    def _replay(self, index: int, round: int, request: Request | None, lie: bool) -> None:
        base = self.core.holdings.held[index]
        true = base.round == round - 1 and base.digest == truth(index, round - 1) and not lie
        self.replays += 1
        held = self.core.judge_replay(index, round, truth(index, round) if true else bytes(32), request)
        if held is not None:
            self.core.settle(index, held)

    def check(self) -> None:
        """It ended, and everything it holds is true."""
        assert self.finished is not None
        target = self.core.holdings.target
        assert target is not None
        for index, held in enumerate(self.core.holdings.held):
            assert (held.round, held.digest) == (target.round, truth(index, target.round))


def donors(count: int, rate: float = 100 * MIB) -> list[VirtualDonor]:
    return [VirtualDonor(peer(index), rate) for index in range(count)]


def all_held(chunks: int, round: int) -> list[Held]:
    return [Held(round, truth(index, round)) for index in range(chunks)]
