"""Links in memory between several `Transfer`s, and a small swarm of states behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from ops.codec import Encoded, get_codec
from ops.digest import root
from p2p.protocol.chain import MemoryChain
from p2p.protocol.fragments import Fragments
from p2p.protocol.holdings import EMPTY, Source
from p2p.protocol.message import Message
from p2p.protocol.messages import decode, encode
from p2p.protocol.model import BadMessage
from p2p.protocol.serving import DeskLimits
from p2p.protocol.sizes import Sizes
from p2p.transfer.transfer import Transfer, TransferMessage, TransferPayload
from swarm.outer_state import OuterState
from tests.p2p.protocol.records import FINGERPRINT, next_record, peer, signed, verify

CHUNK = 1024
CHUNKS = 24
COUNT = CHUNK * (CHUNKS - 1) + 500

Tamper = Callable[[Message, bytearray], Message | None]
"""What a hostile donor does to an answer and its payload; None: it does not answer."""


class Links:
    """One node's carrier."""

    def __init__(self, network: Network, me: str) -> None:
        self.network, self.me = network, me

    def send(self, to: str, message: Message) -> bool:
        return self.network.carry(self.me, to, message, None)

    async def send_bulk(self, to: str, message: Message, buffers: Sequence[memoryview]) -> None:
        await asyncio.sleep(0)
        payload = bytearray(b"".join(buffers))
        if not self.network.carry(self.me, to, message, payload):
            raise ConnectionError("link lost")


@dataclass
class Network:
    """Every message is encoded, decoded and delivered in a later turn of the loop, in order."""

    nodes: dict[str, Node] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    tamper: dict[str, Tamper] = field(default_factory=dict)
    watch: Callable[[str, str, Message], None] = lambda sender, to, message: None
    """Called for each message before it is delivered."""
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    """(who refused, whom, why): BadMessage was raised."""

    def carry(self, sender: str, to: str, message: Message, payload: bytearray | None) -> bool:
        if {sender, to} & self.dead or to not in self.nodes:
            return False
        asyncio.get_running_loop().call_soon(self._deliver, sender, to, encode(message), payload)
        return True

    def _deliver(self, sender: str, to: str, data: bytes, payload: bytearray | None) -> None:
        message: Message | None = decode(data)
        assert isinstance(message, TransferMessage)
        self.watch(sender, to, message)
        if {sender, to} & self.dead:
            return
        if payload is not None and sender in self.tamper:
            message = self.tamper[sender](message, payload)
        if message is None:
            return
        assert isinstance(message, TransferMessage)
        transfer = self.nodes[to].transfer
        try:
            if payload is not None:
                assert isinstance(message, TransferPayload)
                buffers = transfer.open_payload(sender, message, len(payload))
                if buffers is None:
                    return
                view = memoryview(payload)
                for buffer in buffers:
                    buffer[:] = view[: len(buffer)]
                    view = view[len(buffer) :]
                assert not view
            transfer.handle(sender, message)
        except BadMessage as error:
            self.refused.append((to, sender, str(error)))
            transfer.link_down(sender, str(error))

    def kill(self, one: str) -> None:
        self.dead.add(one)
        for other in self.nodes.values():
            if other.peer != one:
                other.transfer.link_down(one, "reset by peer")


class Node:
    """A member: a state, a chain, and the transfer between them and others'."""

    def __init__(
        self,
        network: Network,
        index: int,
        pool: Executor,
        *,
        round: int,
        keep_means: int = 4,
        codec: str = "int8",
        limits: DeskLimits | None = None,
        sizes: Sizes | None = None,
        fragments: Fragments | None = None,
    ) -> None:
        self.peer = peer(index)
        self.heard: list[tuple[str, dict[str, object]]] = []
        theta_P = np.random.default_rng(0).standard_normal(COUNT).astype(np.float32)
        self.state = OuterState(
            theta_P if round != EMPTY else np.empty(COUNT, np.float32),
            np.zeros(COUNT, np.float32),
            codec=get_codec(codec),
            lr=0.7,
            momentum=0.9,
            pool=pool,
            round=round,
            chunk_values=CHUNK,
            keep_means=keep_means,
            fragments=fragments,
        )
        self.chain = MemoryChain(FINGERPRINT)
        self.transfer = Transfer(
            Links(network, self.peer),
            self.state,
            self.chain,
            pool,
            me=self.peer,
            verify=verify,
            limits=limits,
            sizes=sizes,
            listener=lambda event, fields: self.heard.append((event, fields)),
        )
        network.nodes[self.peer] = self


class Swarm:
    """Members that commit the same rounds."""

    def __init__(self, network: Network, pool: Executor, members: int, **options: object) -> None:
        self.network, self.pool, self.options = network, pool, options
        self.members = [Node(network, index, pool, round=-1, **options) for index in range(members)]
        self.root = b""

    async def start(self, rounds: int) -> None:
        self.root = (await asyncio.gather(*(node.state.digests() for node in self.members)))[0].root
        for _ in range(rounds):
            await self.commit()

    def draw_mean(self, seed: int) -> Encoded:
        codec, count = self.members[0].state.codec, self.members[0].state.fragments.size(self.round + 1)
        encoded = Encoded.allocate(codec, count)
        codec.quantise(np.random.default_rng(seed + 1000).standard_normal(count).astype(np.float32), encoded)
        return encoded

    @property
    def round(self) -> int:
        """The last one that live members have committed."""
        return max(node.chain.tip.height for node in self.members if node.peer not in self.network.dead)

    async def commit(self, weight: bool = True, tokens: int = 100) -> None:
        """One more round on every live member."""
        live = [node for node in self.members if node.peer not in self.network.dead]
        tip = live[0].chain.tip
        record = signed(next_record(tip, members=3, tokens=tokens if weight else 0, root=self.root, count=COUNT))
        mean = self.draw_mean(tip.height + 1 + tokens) if weight else None
        for node in live:
            node.chain.append(record)
            await node.state.apply(mean, tip.height + 1)
        self.root = (await asyncio.gather(*(node.state.digests() for node in live)))[0].root

    def sources(self) -> list[Source]:
        """What the heartbeats of live members say."""
        found = []
        for node in self.members:
            height = node.chain.tip.height
            if node.peer not in self.network.dead and (digests := node.state.manifests.get(height)):
                found.append(Source(node.peer, height, node.chain.tip.head, root(digests)))
        return found

    async def close(self) -> None:
        for node in self.network.nodes.values():
            await node.transfer.close()
