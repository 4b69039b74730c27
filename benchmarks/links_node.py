"""One process of benchmarks/links.py: mesh, TLS and reducer of a real node, on a host of its own.

Orders come as lines of JSON on standard input, answers go out as lines of JSON on standard output.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import uvloop

from benchmarks.link_hosts import join
from benchmarks.reduce_node import FINGERPRINT, ReduceNode
from ops.codec import get_codec
from ops.encoded import Encoded
from ops.warm_up import warm_up
from p2p.contact import Contact
from p2p.member import TICK_SECONDS
from p2p.protocol.messages import Plan, decode

TILE = 1 << 20


def say(**news: Any) -> None:
    sys.stdout.write(json.dumps(news) + "\n")
    sys.stdout.flush()


class Node(ReduceNode):
    """Tells of the links it loses."""

    def __init__(self, settings: dict[str, Any], pool: ThreadPoolExecutor) -> None:
        super().__init__(get_codec("int8"), int(settings["values"]), pool, settings["lanes"])
        self.address = settings["address"]
        self.x_P = np.resize(np.random.default_rng().standard_normal(TILE, dtype=np.float32), self.count)

    async def reduce(self, plan: Plan) -> dict[str, Any]:
        wire, cpu, began = self.mesh.wire_bytes(), time.process_time(), time.monotonic()
        self.reducer.begin_round(plan.ballot.round, self._quantise)
        result = await self.reducer.reduce(plan)
        ended = time.monotonic()
        after = self.mesh.wire_bytes()
        return {
            "began": began,
            "ended": ended,
            "cpu": time.process_time() - cpu,
            "sent": after.sent - wire.sent,
            "received": after.received - wire.received,
            "rates": self.reducer.measure(self.mesh.bulk_load()),
            "digests": [digest.hex() for digest in result.digests],
        }

    async def measure(self) -> None:
        """As a member does."""
        while True:
            self.mesh.widen()
            self.reducer.measure(self.mesh.bulk_load())
            await asyncio.sleep(TICK_SECONDS)

    def _quantise(self, start: int, stop: int, out: Encoded) -> None:
        self.codec.quantise(self.x_P[start:stop], out)

    def on_link_down(self, peer: str, reason: str) -> None:
        print(f"link to {peer} lost: {reason}", file=sys.stderr)
        super().on_link_down(peer, reason)

    def on_unreachable(self, peer: str, reason: str) -> None:
        print(f"{peer} unreachable: {reason}", file=sys.stderr)


async def main(settings: dict[str, Any]) -> None:
    join(settings["address"], settings["congestion"], socket.socket(fileno=settings["link"]))
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(2) as pool:
        node = Node(settings, pool)
        await loop.run_in_executor(pool, warm_up, node.codec)
        port = await node.mesh.listen(node.address, 0)
        say(peer=node.name, port=port)
        measuring = asyncio.create_task(node.measure())
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            order = json.loads(line)
            if "dial" in order:
                for peer, host, there in order["dial"]:
                    address = ((host, there),)
                    node.mesh.dial(Contact(peer=peer, p2pd="", addresses=address, fingerprint=FINGERPRINT, sequence=1))
                while len(node.mesh.peers()) < order["peers"]:  # noqa: ASYNC110 - part of the set-up
                    await asyncio.sleep(0.01)
                say(linked=True)
            else:
                plan = decode(bytes.fromhex(order["plan"]))
                assert isinstance(plan, Plan)
                say(**await node.reduce(plan))
        measuring.cancel()


if __name__ == "__main__":
    sys.setswitchinterval(5e-4)  # as in a node
    uvloop.run(main(json.loads(sys.argv[1])))
