"""Who takes part in benchmarks/allreduce.py: our reduce, hivemind's averager, torch's gloo. One object a process.

Each averages the same vectors: member r holds a tile of normal values, seeded by r, repeated to the full length.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Exchange = Callable[[str], list[str]]
"""Give a text, get everybody's, in rank order."""

TILE = 1 << 20


class Contender(Protocol):
    """`prepare` is not timed, `run` is. `result` shows the first values of what `run` left behind."""

    divisor: int

    def prepare(self) -> None: ...
    def run(self) -> None: ...
    def result(self) -> Floats: ...
    def received(self) -> int: ...
    def close(self) -> None: ...


def tile_of(rank: int, count: int) -> Floats:
    return np.random.default_rng(rank).standard_normal(min(TILE, count), dtype=np.float32)


def fill(x_P: Floats, rank: int) -> None:
    """Member `rank`'s vector."""
    tile = tile_of(rank, len(x_P))
    for start in range(0, len(x_P), TILE):
        x_P[start : start + TILE] = tile[: len(x_P) - start]


def relative_error(result: Floats, members: int, count: int, divisor: float) -> float:
    """L2 distance of the first tile from the exact mean, relative to that mean."""
    exact = sum(tile_of(rank, count).astype(np.float64) for rank in range(members)) / members
    return float(np.linalg.norm(result / divisor - exact) / np.linalg.norm(exact))


class Ours:
    """int8 block-1024 by AES-256-GCM. Timed: quantise, exchange, reduce, digest the mean, decode it into fp32."""

    divisor = 1

    def __init__(self, rank: int, members: int, count: int, exchange: Exchange, lanes: int = 1) -> None:
        import uvloop

        sys.setswitchinterval(5e-4)  # as in a node
        self._loop = uvloop.new_event_loop()
        self._loop.run_until_complete(self._start(rank, members, count, exchange, lanes))

    async def _start(self, rank: int, members: int, count: int, exchange: Exchange, lanes: int) -> None:
        from ops.codec import get_codec
        from p2p.channel.hello import RunIdentity
        from p2p.channel.mesh import Mesh
        from p2p.contact import Contact
        from p2p.identity import Identity
        from p2p.reduce.reducer import Reducer

        self._codec = get_codec("int8")
        self._x_P = np.empty(count, np.float32)
        fill(self._x_P, rank)
        self._out_P = np.zeros(count, np.float32)
        self._pool = ThreadPoolExecutor(2)
        identity = Identity.generate()
        self._mesh = Mesh(identity, RunIdentity(bytes(32)), self, bulk_lanes=lanes)
        self._reducer = Reducer(self._codec, count, identity.peer_id, self._mesh, self._pool)
        port = await self._mesh.listen("127.0.0.1", 0)
        entries = [entry.split() for entry in exchange(f"{identity.peer_id} {port}")]
        self._members = [peer for peer, _ in entries]
        for peer, other_port in entries[:rank]:
            address = ("127.0.0.1", int(other_port))
            self._mesh.dial(Contact(peer=peer, p2pd="", addresses=(address,), fingerprint=bytes(32), sequence=1))
        while len(self._mesh.peers()) < members - 1:  # noqa: ASYNC110 - part of the set-up
            await asyncio.sleep(0.01)
        self._round = -1
        self._plan: Any = None

    def prepare(self) -> None:
        from p2p.protocol.messages import Ready
        from p2p.protocol.plan import Head, Rules, fresh

        self._round += 1
        rules = Rules(bytes(32), len(self._x_P), "int8", self._codec.block, quota=0)
        ready = {peer: Ready(round=0, tokens=1, used=()) for peer in self._members}
        head = Head(rules.fingerprint)
        ballot = head.ballot(0, 0).model_copy(update={"round": self._round})
        self._plan = fresh(rules, head, ballot, ready, b"", self._members)

    def run(self) -> None:
        self._loop.run_until_complete(self._run())

    async def _run(self) -> None:
        self._reducer.begin_round(self._round, self._quantise)
        result = await self._reducer.reduce(self._plan)
        half = len(self._out_P) // 2 // self._codec.block * self._codec.block
        halves = [(0, half), (half, len(self._out_P))]
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._pool, self._decode, result.mean, *cut) for cut in halves))

    def _quantise(self, start: int, stop: int, out: Any) -> None:
        self._codec.quantise(self._x_P[start:stop], out)

    def _decode(self, mean: Any, start: int, stop: int) -> None:
        self._codec.decode(mean.slice(start, stop), self._out_P[start:stop])

    def result(self) -> Floats:
        return self._out_P[:TILE]

    def received(self) -> int:
        return self._mesh.wire_bytes().received

    def close(self) -> None:
        self._loop.run_until_complete(self._reducer.close())
        self._loop.run_until_complete(self._mesh.close())

    # MeshHandler

    def open_payload(self, peer: str, message: Any, size: int) -> Sequence[memoryview] | None:
        return self._reducer.open_payload(peer, message, size)

    def on_message(self, peer: str, message: Any, payload: Sequence[memoryview] | None) -> None:
        if payload is None:
            self._reducer.on_go(peer, message)
        else:
            self._reducer.on_payload(peer, message, payload)

    def on_link_up(self, peer: str, _hello: object) -> None:
        self._reducer.on_link_up(peer)

    def on_link_down(self, peer: str, _reason: str) -> None:
        self._reducer.on_link_down(peer)

    def on_unreachable(self, peer: str, _reason: str) -> None:
        pass

    def on_refused(self, peer: str, reason: str) -> None:
        raise RuntimeError(f"{peer}: {reason}")


class Gloo:
    """torch.distributed.all_reduce, gloo, fp32, plain TCP. Timed: the all_reduce, in place (a sum, not a mean)."""

    def __init__(self, rank: int, members: int, count: int, exchange: Exchange) -> None:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        import torch
        from torch import distributed

        self.divisor = members
        self._distributed = distributed
        store = None
        if rank == 0:
            store = distributed.TCPStore("127.0.0.1", 0, members, is_master=True, wait_for_workers=False)
        port = int(exchange(str(store.port) if store else "")[0])
        store = store or distributed.TCPStore("127.0.0.1", port, members, is_master=False)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=members)
        self._tensor = torch.empty(count, dtype=torch.float32)
        self._rank = rank

    def prepare(self) -> None:
        fill(self._tensor.numpy(), self._rank)

    def run(self) -> None:
        self._distributed.all_reduce(self._tensor)

    def result(self) -> Floats:
        return self._tensor.numpy()[:TILE]

    def received(self) -> int:
        return 0

    def close(self) -> None:
        self._distributed.destroy_process_group()


class Hivemind:
    """hivemind's DecentralizedAverager, as its users run it. Timed: the all-reduce, from the moment the group has been
    found (matchmaking is not counted) to the averaged tensor in place."""

    divisor = 1

    def __init__(self, rank: int, members: int, count: int, exchange: Exchange, compression: str) -> None:
        multiprocessing.set_start_method("fork", force=True)  # hivemind's processes take over what cannot be pickled
        import torch

        from p2p.discovery.dht_clock import dht_time
        from p2p.discovery.hivemind_import import whole_hivemind

        hivemind = whole_hivemind()
        warnings.simplefilter("ignore", UserWarning)  # torch's, about hivemind's buffers
        # hivemind 1.1.12 takes int() of an array with one value, which numpy 2.4 refuses: without this its averagers
        # would drop all parts, quickly.
        hivemind.compression.quantization.int = lambda value: int(np.ravel(value)[0])
        start = ["/ip4/127.0.0.1/tcp/0"]
        self._dht = None
        if rank == 0:
            self._dht = hivemind.DHT(host_maddrs=start, start=True)
        first = exchange(" ".join(map(str, self._dht.get_visible_maddrs())) if self._dht else "")[0].split()
        if self._dht is None:
            self._dht = hivemind.DHT(host_maddrs=start, initial_peers=first, start=True)
        self._averager = hivemind.DecentralizedAverager(
            [torch.zeros(count)],
            self._dht,
            start=True,
            prefix="benchmark",
            target_group_size=members,
            min_group_size=members,
            min_matchmaking_time=3.0,
            compression=getattr(hivemind.compression, compression)(),
            allow_state_sharing=False,
        )
        self._stage = hivemind.averaging.control.AveragingStage
        self._get_time = dht_time
        self._rank = rank
        self._control: Any = None

    def prepare(self) -> None:
        with self._averager.get_tensors() as tensors:
            fill(tensors[0].numpy(), self._rank)
        self._control = self._averager.step(
            wait=False, require_trigger=True, scheduled_time=self._get_time() + 3.0, timeout=60.0
        )
        while self._control.stage != self._stage.AWAITING_TRIGGER:
            time.sleep(0.01)

    def run(self) -> None:
        self._control.allow_allreduce()
        assert self._control.result() is not None

    def result(self) -> Floats:
        with self._averager.get_tensors() as tensors:
            values: Floats = tensors[0].numpy()[:TILE].copy()
        return values

    def received(self) -> int:
        return 0

    def close(self) -> None:
        self._averager.shutdown()
        if self._dht is not None:
            self._dht.shutdown()


CONTENDERS: dict[str, Callable[[int, int, int, Exchange], Contender]] = {
    "ours int8 AES": Ours,
    "gloo fp32": Gloo,
    "hivemind uniform8": lambda *where: Hivemind(*where, compression="Uniform8BitQuantization"),
    "hivemind none": lambda *where: Hivemind(*where, compression="NoCompression"),
}
BYTES_PER_VALUE = {"ours int8 AES": 11, "gloo fp32": 6, "hivemind uniform8": 18, "hivemind none": 18}
"""Memory of one process, roughly: decides what may be started together."""
WIRE_BITS = {"ours int8 AES": 8 + 32 / 1024, "gloo fp32": 32.0, "hivemind uniform8": 8.0, "hivemind none": 32.0}
"""Bits of a value on the wire, by formula."""


class Failure(str):
    """Sent instead of an answer: why a process gave up."""


def worker(name: str, rank: int, members: int, count: int, pipe: Any, options: dict[str, Any]) -> None:
    """A process of one contender; obeys the driver at the other end of `pipe`."""
    os.setpgid(0, 0)  # so that the driver can end us with all we started
    try:
        obey(name, rank, members, count, pipe, options)
    # whatever a contender raises ends its part, and the table says so
    except Exception as error:  # noqa: BLE001
        pipe.send(Failure(f"{type(error).__name__}: {error}"))


def obey(name: str, rank: int, members: int, count: int, pipe: Any, options: dict[str, Any]) -> None:
    def exchange(text: str) -> list[str]:
        pipe.send(text)
        texts: list[str] = pipe.recv()
        return texts

    build: Callable[..., Contender] = CONTENDERS[name]
    contender = build(rank, members, count, exchange, **(options if name == "ours int8 AES" else {}))
    pipe.send("ready")
    gc.freeze()
    while True:
        order = pipe.recv()
        if order == "prepare":
            contender.prepare()
            pipe.send("prepared")
        elif order == "run":
            before, cpu, start = contender.received(), time.process_time(), time.monotonic()
            contender.run()
            stop, cpu = time.monotonic(), time.process_time() - cpu
            pipe.send((start, stop, cpu, contender.received() - before))
        elif order == "error":
            pipe.send(relative_error(contender.result(), members, count, contender.divisor))
        else:
            contender.close()
            pipe.send("closed")
            return
