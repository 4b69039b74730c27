"""Members over real links in one event loop: a swarm without processes, DHT or training."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from ops.codec import get_codec
from ops.encoded import Encoded
from p2p.channel.hello import RunIdentity
from p2p.channel.mesh import Mesh
from p2p.contact import Contact
from p2p.identity import Identity, verify
from p2p.member import Member
from p2p.outcome import Committed, Missed
from p2p.protocol import ledger
from p2p.protocol.chain import MemoryChain, RecordChain
from p2p.protocol.holdings import EMPTY
from p2p.protocol.plan import Head, Rules
from p2p.reduce.reducer import Reducer
from p2p.transfer.fetch import FetchResult
from p2p.transfer.transfer import Transfer
from swarm.outer_state import OuterState

FINGERPRINT = b"m" * 32
COUNT = 20_000
DEADLINE_SECONDS = 30.0
GATHER_SECONDS = 5.0
"""How long a player that comes back with a checkpoint waits for the others of its view."""
TRAIN_SECONDS = 0.1
"""Training stands still for so long."""


@dataclass
class Player:
    """A node whose training is a random direction."""

    index: int
    member: Member
    mesh: Mesh
    state: OuterState
    chain: RecordChain
    contact: Contact
    identity: Identity
    notes: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    outcomes: list[Committed | Missed] = field(default_factory=list)
    fetched: list[FetchResult | None] = field(default_factory=list)
    """What each sync brought."""
    playing: asyncio.Task[None] | None = None
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def committed(self) -> list[Committed]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, Committed)]

    async def play(self, may_found: bool) -> None:
        """Rounds for ever."""
        random = np.random.default_rng(self.index)
        self.fetched.append(await self.member.sync(may_found))
        while True:
            ranges = self.member.assignment
            gradient_P = random.standard_normal(COUNT, np.float32)

            def source(start: int, stop: int, out: Encoded, gradient_P: np.ndarray = gradient_P) -> None:
                self.state.codec.quantise(gradient_P[start:stop], out)

            if ranges:
                await asyncio.sleep(TRAIN_SECONDS)
            tokens = 10 * ledger.size(ranges)
            outcome = await self.member.commit_round(tokens, ranges, source if tokens else None)
            self.outcomes.append(outcome)
            self.progress.set()
            if isinstance(outcome, Missed):
                self.fetched.append(await self.member.sync(may_found))


@dataclass(frozen=True)
class Saved:
    """What a node comes back with: a checkpoint of some round, and all records it ever had."""

    identity: Identity
    round: int
    vectors_P: tuple[np.ndarray, np.ndarray]
    chain: MemoryChain


class MemberSwarm:
    """Players who know each other's contacts."""

    def __init__(self, pool: ThreadPoolExecutor, founders: int) -> None:
        codec = get_codec("int8")
        self.rules = Rules(FINGERPRINT, COUNT, codec.name, codec.block, quota=4, founders=founders)
        self.pool = pool
        self.players: list[Player] = []

    async def add(
        self, may_found: bool = False, chain: RecordChain | None = None, saved: Saved | None = None, round: int = -1
    ) -> Player:
        """`saved`: come back with a checkpoint. `round` EMPTY: hold nothing, not even the first parameters."""
        identity = saved.identity if saved else Identity.generate()
        vectors = saved.vectors_P if saved else (np.linspace(-1, 1, COUNT, dtype=np.float32), np.zeros(COUNT, "f4"))
        theta_P, momentum_P = (np.zeros_like(x_P) if round == EMPTY else x_P.copy() for x_P in vectors)
        codec = get_codec(self.rules.codec)
        chain = chain or (saved.chain if saved else MemoryChain(FINGERPRINT))
        head = Head(FINGERPRINT, chain.record(saved.round).record if saved else None)
        state = OuterState(
            theta_P,
            momentum_P,
            codec=codec,
            lr=0.7,
            momentum=0.9,
            pool=self.pool,
            chunk_values=4096,
            round=round if saved is None else saved.round,
        )
        notes: list[tuple[str, dict[str, object]]] = []
        member = Member(identity, self.rules, state, chain, lambda event, fields: notes.append((event, fields)))
        member.begin_at(head)
        mesh = Mesh(identity, RunIdentity(FINGERPRINT), member)
        reducer = Reducer(codec, COUNT, identity.peer_id, mesh, self.pool)
        transfer = Transfer(
            mesh,
            state,
            chain,
            self.pool,
            me=identity.peer_id,
            verify=verify,
            reducing=lambda: reducer.reducing,
        )
        member.wire(mesh, reducer, transfer)
        port = await mesh.listen("127.0.0.1", 0)
        contact = Contact(
            peer=identity.peer_id, p2pd="", addresses=(("127.0.0.1", port),), fingerprint=FINGERPRINT, sequence=1
        )
        player = Player(len(self.players), member, mesh, state, chain, contact, identity, notes)
        for other in self.players:
            mesh.dial(other.contact)
            other.mesh.dial(contact)
        self.players.append(player)
        player.playing = asyncio.create_task(player.play(may_found))
        return player

    async def until(self, player: Player, rounds: int) -> None:
        """Until the player has committed so many rounds."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(player.committed) < rounds:
                if player.playing is not None and player.playing.done():
                    player.playing.result()
                player.progress.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(player.progress.wait(), 1.0)

    def save(self, player: Player) -> Saved:
        """A checkpoint of the player's present state."""
        assert player.state.round is not None
        chain = MemoryChain(FINGERPRINT, player.chain.records(0, 10_000))
        vectors_P = player.state.theta_P.copy(), player.state.momentum_P.copy()
        return Saved(player.identity, player.state.round, vectors_P, chain)

    async def stop(self, player: Player) -> None:
        """Without a word."""
        if player.playing is not None:
            player.playing.cancel()
            await asyncio.wait({player.playing})
        await player.member.close()
        await player.mesh.close()
        self.players.remove(player)

    def check(self) -> None:
        """Whoever committed a round has the same record and the same state after it."""
        seen: dict[int, tuple[bytes, bytes]] = {}
        for player in self.players:
            for outcome in player.committed:
                found = (player.chain.hash_at(outcome.record.round), outcome.state.root)
                assert seen.setdefault(outcome.record.round, found) == found


@asynccontextmanager
async def member_swarm(founders: int) -> AsyncIterator[MemberSwarm]:
    with ThreadPoolExecutor(2) as pool:
        swarm = MemberSwarm(pool, founders)
        try:
            for index in range(founders):
                await swarm.add(may_found=index == 0)
            yield swarm
        finally:
            for player in tuple(swarm.players):
                await swarm.stop(player)
