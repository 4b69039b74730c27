"""Links between members of one process, for tests of shells: real encoding, no socket, any order and delay."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from p2p.channel.widening import NO_FLOW, Flow
from p2p.protocol.message import Message
from p2p.protocol.messages import Go, Mean, Part, decode, encode
from p2p.protocol.model import BadMessage
from p2p.reduce.reducer import Reducer

DEADLINE_S = 20.0


async def until(condition: Callable[[], bool]) -> None:
    """Let everything run until `condition` holds. Raises TimeoutError."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is awaited is the state of others' books, which raise no event
            await asyncio.sleep(0)


async def settle() -> None:
    """Let everything run that can without a thread."""
    for _ in range(200):
        await asyncio.sleep(0)


class Network:
    """All members. `refused` collects what a receiver raised: the real mesh closes that link."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.reducers: dict[str, Reducer] = {}
        self.cut: set[frozenset[str]] = set()
        self.payload_sent: Counter[str] = Counter()
        self.log: list[tuple[str, str, Message]] = []
        self.refused: list[tuple[str, str, str]] = []
        self.tamper: Callable[[str, str, Message, list[memoryview]], Message] = lambda _a, _b, message, _p: message

    def carrier(self, me: str) -> MemoryCarrier:
        return MemoryCarrier(self, me)

    def joined(self, a: str, b: str) -> bool:
        return frozenset((a, b)) not in self.cut

    def break_link(self, a: str, b: str) -> None:
        self.cut.add(frozenset((a, b)))
        self.reducers[a].on_link_down(b)
        self.reducers[b].on_link_down(a)

    def mend_link(self, a: str, b: str) -> None:
        self.cut.remove(frozenset((a, b)))
        self.reducers[a].on_link_up(b)
        self.reducers[b].on_link_up(a)

    async def pause(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)


class MemoryCarrier:
    """A p2p.reduce.attempt.Carrier."""

    def __init__(self, network: Network, me: str) -> None:
        self.network = network
        self.me = me

    def send(self, peer: str, message: Message) -> bool:
        if not self.network.joined(self.me, peer) or peer not in self.network.reducers:
            return False
        asyncio.get_running_loop().call_soon(self._deliver, peer, encode(message))
        return True

    def _deliver(self, peer: str, data: bytes) -> None:
        if self.network.joined(self.me, peer):
            message = decode(data)
            assert isinstance(message, Go)
            self.network.log.append((self.me, peer, message))
            try:
                self.network.reducers[peer].on_go(self.me, message)
            except BadMessage as error:
                self.network.refused.append((self.me, peer, str(error)))

    async def send_bulk(self, peer: str, message: Message, buffers: Sequence[memoryview]) -> None:
        network = self.network
        if not network.joined(self.me, peer):
            raise ConnectionResetError(f"no link to {peer}")
        payload = [memoryview(bytes(buffer)) for buffer in buffers]
        received = decode(encode(network.tamper(self.me, peer, message, payload)))
        assert isinstance(received, Part | Mean)
        size = sum(view.nbytes for view in payload)
        network.payload_sent[self.me] += size
        await network.pause()
        try:
            target = network.reducers[peer].open_payload(self.me, received, size)
            await network.pause()  # half received
            if not network.joined(self.me, peer):
                raise ConnectionResetError(f"link to {peer} lost")
            if target is not None:
                _fill(target, payload)
            network.log.append((self.me, peer, received))
            network.reducers[peer].on_payload(self.me, received, target)
        except BadMessage as error:
            network.refused.append((self.me, peer, str(error)))
            network.break_link(self.me, peer)
            raise ConnectionResetError(str(error)) from None

    def lanes(self, peer: str) -> int:
        return 1

    def outstanding(self, peer: str) -> int:
        return 0

    def flow(self, peer: str) -> Flow:
        return NO_FLOW

    def allot(self, paces: Mapping[str, float]) -> None:
        pass

    def hasten(self, peer: str, left: int) -> None:
        pass


def _fill(target: Sequence[memoryview], payload: Sequence[memoryview]) -> None:
    data = b"".join(payload)
    assert len(data) == sum(view.nbytes for view in target)
    start = 0
    for view in target:
        view[:] = data[start : start + view.nbytes]
        start += view.nbytes
