"""One process of benchmarks/transfer.py: a real member, or a newcomer, without DHT and without training.

Orders come as lines of JSON on standard input, news go out as lines of JSON on standard output. A member founds a run
with the others and then commits a round every so often. A newcomer fetches the state when told to, each time as a new
node that holds nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import uvloop

from ops.codec import get_codec
from ops.encoded import Encoded
from ops.warm_up import warm_up
from p2p.channel.hello import RunIdentity
from p2p.channel.mesh import Mesh
from p2p.contact import Contact
from p2p.identity import Identity, verify
from p2p.member import Member
from p2p.outcome import Committed
from p2p.protocol import ledger
from p2p.protocol.chain import MemoryChain
from p2p.protocol.holdings import EMPTY
from p2p.protocol.plan import Rules
from p2p.reduce.reducer import Reducer
from p2p.transfer.keeper import StateKeeper
from p2p.transfer.state_file import StateFile
from p2p.transfer.transfer import Transfer
from swarm.outer_state import OuterState

FINGERPRINT = b"t" * 32
THREADS = 2


def say(**news: Any) -> None:
    sys.stdout.write(json.dumps(news) + "\n")
    sys.stdout.flush()


class Orders:
    """What the benchmark wants next."""

    @classmethod
    async def open(cls) -> Orders:
        reader = asyncio.StreamReader(limit=1 << 20)
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        return cls(reader)

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def next(self) -> dict[str, Any]:
        line = await self._reader.readline()
        if not line:
            raise SystemExit  # the benchmark has ended
        return dict(json.loads(line))


class Node:
    """A member with all that belongs to it."""

    def __init__(self, settings: dict[str, Any], pool: ThreadPoolExecutor, *, empty: bool) -> None:
        count, codec = settings["values"], get_codec("int8")
        self.count, self.codec = count, codec
        theta_P = np.zeros(count, np.float32)
        if not empty:
            np.random.default_rng(0).standard_normal(out=theta_P, dtype=np.float32)
        self.state = OuterState(
            theta_P,
            np.zeros(count, np.float32),
            codec=codec,
            lr=0.7,
            momentum=0.9,
            pool=pool,
            round=EMPTY if empty else -1,
        )
        self.identity = Identity.generate()
        self.dropped: list[tuple[str, str]] = []
        chain = MemoryChain(FINGERPRINT)
        rules = Rules(FINGERPRINT, count, codec.name, codec.block, quota=1, founders=settings["founders"])
        self.member = Member(self.identity, rules, self.state, chain, self._hear)
        self.mesh = Mesh(self.identity, RunIdentity(FINGERPRINT), self.member)
        self.keeper: StateKeeper | None = None
        if settings.get("state"):
            file = StateFile(Path(settings["state"]), FINGERPRINT, count, self.state.chunk_values)
            self.keeper = StateKeeper(self.state, file, self._hear)
        reducer = Reducer(codec, count, self.identity.peer_id, self.mesh, pool)
        self.transfer = Transfer(
            self.mesh,
            self.state,
            chain,
            pool,
            me=self.identity.peer_id,
            verify=verify,
            listener=self._hear,
            keeper=self.keeper,
            reducing=lambda: reducer.reducing,
        )
        self.member.wire(self.mesh, reducer, self.transfer)

    def _hear(self, event: str, fields: dict[str, object]) -> None:
        if event == "donor_dropped":
            self.dropped.append((str(fields["peer"]), str(fields["reason"])))

    async def listen(self, host: str) -> Contact:
        if self.keeper is not None:
            self.keeper.start()
        port = await self.mesh.listen(host, 0)
        me = self.identity.peer_id
        return Contact(peer=me, p2pd="", addresses=((host, port),), fingerprint=FINGERPRINT, sequence=1)

    def dial(self, contacts: list[dict[str, Any]]) -> None:
        for contact in contacts:
            addresses = tuple((host, port) for host, port in contact["addresses"])
            self.mesh.dial(
                Contact(peer=contact["peer"], p2pd="", addresses=addresses, fingerprint=FINGERPRINT, sequence=1)
            )

    @property
    def chunks_held(self) -> int:
        return sum(self.state.version(index) != EMPTY for index in range(self.state.chunks))

    async def close(self) -> None:
        await self.member.close()
        await self.mesh.close()
        if self.keeper is not None:
            await self.keeper.close()


@asynccontextmanager
async def opened(settings: dict[str, Any], pool: ThreadPoolExecutor, *, empty: bool) -> AsyncIterator[Node]:
    node = Node(settings, pool, empty=empty)
    try:
        yield node
    finally:
        await node.close()


async def be_member(settings: dict[str, Any], pool: ThreadPoolExecutor, orders: Orders) -> None:
    """Rounds for ever; `train_seconds` of standing still are its training."""
    async with opened(settings, pool, empty=False) as node:
        contact = await node.listen(settings["host"])
        say(contact={"peer": contact.peer, "addresses": contact.addresses})
        order = await orders.next()
        node.dial(order["contacts"])
        playing = asyncio.create_task(play(node, settings, may_found=order["founds"]))
        try:
            while (await orders.next()).get("order") == "report":
                say(given=node.transfer.bytes_sent)
        finally:
            playing.cancel()
            await asyncio.wait({playing})


async def play(node: Node, settings: dict[str, Any], *, may_found: bool) -> None:
    gradient_P = np.random.default_rng(1).standard_normal(node.count, dtype=np.float32)

    def source(start: int, stop: int, out: Encoded) -> None:
        node.codec.quantise(gradient_P[start:stop], out)

    await node.member.sync(may_found)
    before = time.monotonic()
    while True:
        ranges = node.member.assignment
        if ranges:
            if settings["damaged"]:  # memory that changes after its digests were told
                node.state.theta_P[:: node.state.chunk_values // 2] += 1.0
            await asyncio.sleep(settings["train_seconds"])
        tokens = ledger.size(ranges)
        outcome = await node.member.commit_round(tokens, ranges, source if tokens else None)
        if isinstance(outcome, Committed):
            now = time.monotonic()
            say(round=outcome.record.round, seconds=now - before)
            before = now
        else:
            await node.member.sync(may_found)


async def be_newcomer(settings: dict[str, Any], pool: ThreadPoolExecutor, orders: Orders) -> None:
    say(ready=True)
    while (order := await orders.next())["order"] == "fetch":
        async with opened(settings, pool, empty=True) as node:
            await node.listen(settings["host"])
            telling = asyncio.create_task(tell_progress(node))
            began = time.monotonic()
            node.dial(order["contacts"])
            result = await node.member.sync(may_found=False)
            assert result is not None
            seconds = time.monotonic() - began
            await node.member.leave()  # lest the members wait for it to become ready
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
            say(
                fetched=seconds,
                core=result.seconds,
                bytes=result.bytes,
                chunks=result.chunks,
                donors=result.donors,
                dropped=node.dropped,
                root=result.root.hex(),
                whole=node.state.round == result.round,
            )


async def tell_progress(node: Node) -> None:
    while True:
        say(chunks=node.chunks_held, of=node.state.chunks)
        await asyncio.sleep(0.1)


async def main(settings: dict[str, Any]) -> None:
    role = be_newcomer if settings["role"] == "newcomer" else be_member
    with ThreadPoolExecutor(THREADS) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, warm_up, get_codec("int8"))
        await role(settings, pool, await Orders.open())


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
