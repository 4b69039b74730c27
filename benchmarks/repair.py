"""What the death of one of eight members in the middle of a reduce costs, against a clean reduce in the same run.

    python benchmarks/repair.py           # prints the table and writes benchmarks/repair.log

Eight members with real encrypted links over loopback, in one process and on one event loop: seconds are those of this
machine's two cores, which do the work of all eight, so only the ratios mean anything. In each turn the swarm reduces
twice, with fresh links: once undisturbed, once with a member that dies when the first of the others holds the given
share of the mean. Detection is left out: the survivors' reports go to the repair at once. `time` is from the start to
the last survivor's result, `bytes` what a survivor receives at its sockets on average, both against the clean reduce.
Exit status 1 if the median time ratio of any share exceeds 1.3, or members differ.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import uvloop

from benchmarks.reduce_node import FINGERPRINT, ReduceNode
from ops.codec import Codec, Encoded, get_codec
from ops.jit import Floats
from ops.warm_up import warm_up
from p2p.contact import Contact
from p2p.protocol.messages import Plan, Promise, Ready
from p2p.protocol.plan import Head, Rules, fresh
from p2p.protocol.repair import repaired
from p2p.reduce.reducer import ReduceResult

MEMBERS = 8
VICTIM = 3
SHARES = (0.1, 0.5, 0.9)
BAR = 1.3
LOG = Path(__file__).with_suffix(".log")


class Node(ReduceNode):
    """Contributes a vector of its own."""

    def __init__(self, codec: Codec, x_P: Floats, pool: ThreadPoolExecutor) -> None:
        super().__init__(codec, x_P.size, pool)
        self.x_P = x_P

    def begin(self) -> None:
        self.reducer.begin_round(0, self._quantise)

    def _quantise(self, start: int, stop: int, out: Encoded) -> None:
        self.codec.quantise(self.x_P[start:stop], out)

    @property
    def held(self) -> float:
        """Share of the mean."""
        books = self.reducer.progress()
        return books.values_held / self.x_P.size if books else 0.0

    def promise(self, plan: Plan) -> Promise:
        books = self.reducer.progress()
        assert books is not None
        means, parts = books.leading_means(), books.leading_parts()
        return Promise(ballot=plan.ballot, ready=None, plan=plan, means=means, parts=parts, vote=None, voted=None)


@dataclass(frozen=True)
class Turn:
    seconds: float
    received: float
    """Bytes a survivor."""
    segments: int


class Bench:
    def __init__(self, count: int) -> None:
        self.codec = get_codec("int8")
        self.rules = Rules(FINGERPRINT, count, self.codec.name, self.codec.block, quota=0)
        random = np.random.default_rng(0)
        self.vectors = [random.standard_normal(count, np.float32) for _ in range(MEMBERS)]
        self.pool = ThreadPoolExecutor(2)
        warm_up(self.codec)

    async def turn(self, share: float | None) -> Turn:
        """One reduce; with a death when `share` of the mean is there, or without one."""
        nodes = [Node(self.codec, x_P, self.pool) for x_P in self.vectors]
        await self._link(nodes)
        names = [node.name for node in nodes]
        ready = {name: Ready(round=0, tokens=1, used=()) for name in names}
        plan = fresh(self.rules, Head(FINGERPRINT), Head(FINGERPRINT).ballot(0, 0), ready, b"", names)
        for node in nodes:
            node.begin()
        began = time.perf_counter()
        before = [node.mesh.wire_bytes().received for node in nodes]
        tasks = [asyncio.create_task(node.reducer.reduce(plan)) for node in nodes]
        live = nodes
        if share is not None:
            while max(node.held for node in nodes) < share:  # noqa: ASYNC110 - a counter raises no event
                await asyncio.sleep(0.001)
            live = [node for node in nodes if node is not nodes[VICTIM]]
            plan, tasks = await self._repair(nodes, live, plan, tasks)
        results: list[ReduceResult] = await asyncio.gather(*tasks)
        seconds = time.perf_counter() - began
        assert len({result.digests for result in results}) == 1, "members differ"
        received = [
            node.mesh.wire_bytes().received - old for node, old in zip(nodes, before, strict=True) if node in live
        ]
        for node in live:
            await node.reducer.close()
        await asyncio.gather(*(node.mesh.close() for node in live))
        return Turn(seconds, statistics.mean(received), len(plan.draft.segments))

    async def _repair(
        self, nodes: list[Node], live: list[Node], plan: Plan, tasks: list[asyncio.Task[ReduceResult]]
    ) -> tuple[Plan, list[asyncio.Task[ReduceResult]]]:
        victim = nodes[VICTIM]
        tasks[VICTIM].cancel()
        await victim.reducer.close()
        await victim.mesh.close()
        promises = {node.name: node.promise(plan) for node in live}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ballot = Head(FINGERPRINT).ballot(1, 0)
        again = repaired(self.rules, Head(FINGERPRINT), ballot, plan, promises, [node.name for node in live])
        assert again is not None
        return again, [asyncio.create_task(node.reducer.reduce(again)) for node in live]

    async def _link(self, nodes: list[Node]) -> None:
        contacts: list[Contact] = []
        for node in nodes:
            port = await node.mesh.listen("127.0.0.1", 0)
            for contact in contacts:
                node.mesh.dial(contact)
            address = ("127.0.0.1", port)
            contacts.append(Contact(peer=node.name, p2pd="", addresses=(address,), fingerprint=FINGERPRINT, sequence=1))
        while any(len(node.mesh.peers()) < MEMBERS - 1 for node in nodes):  # noqa: ASYNC110 - part of the set-up
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)  # the bulk lanes come up behind the first one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=float, default=25, help="values of the vector, in millions")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    count = int(arguments.values * 1e6)
    bench = Bench(count)
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        f"{MEMBERS} members, {count / 1e6:g}M values, int8, {arguments.turns} turns",
        "member dies at     time: median (min - max) of the clean reduce   bytes   segments",
    ]
    print("\n".join(lines))
    worst = 0.0
    uvloop.run(bench.turn(None))  # memory, connections, kernels: first times are slow
    for share in SHARES:
        pairs = [(uvloop.run(bench.turn(None)), uvloop.run(bench.turn(share))) for _ in range(arguments.turns)]
        times = [hurt.seconds / clean.seconds for clean, hurt in pairs]
        size = statistics.median(hurt.received / clean.received for clean, hurt in pairs)
        segments = max(hurt.segments for _, hurt in pairs)
        median = statistics.median(times)
        worst = max(worst, median)
        lines.append(
            f"{100 * share:4.0f} % of the mean   {median:.2f} ({min(times):.2f} - {max(times):.2f})"
            f"                                {size:.2f}   {segments}"
        )
        print(lines[-1], flush=True)
    LOG.write_text("\n".join(lines) + "\n")
    return int(worst > BAR)


if __name__ == "__main__":
    raise SystemExit(main())
