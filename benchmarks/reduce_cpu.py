"""Where the CPU time of a reduce goes: each of its parts alone, and the whole.

    python benchmarks/reduce_cpu.py [--members 4] [--values 100,25]      (two minutes)

Prints, and writes benchmarks/reduce_cpu.log.

ns a value and node, int8. A node quantises each value of its vector once, reduces its N-th of the values from N parts,
digests the whole mean and decodes it; it sends and receives 2(N-1)/N values, each through AES-256-GCM and the kernel's
TCP.
The parts are done in as many processes at once as there are members, several times, and the median counts: nodes that
share a machine share its caches, too. The codec works on vectors of all values, records are sealed from and opened to
memory that does not fit into a cache either, TCP works on what a node hands over at once. The whole is that of
benchmarks/allreduce.py: the event loop's thread does encryption, TCP and all Python, the other threads quantise, mean,
digest and decode.
TCP is measured on loopback: no network card, no driver, segments of 64 KiB. CPU seconds are those of the processes, the
kernel's part included; `kernel` says how much of them that was. What the whole takes beyond its parts is the event
loop, Python, and changes from one process and thread to another, which find the caches cold.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import socket
import statistics
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.allreduce import OURS, Team
from benchmarks.report import Report
from ops.codec import Encoded, get_codec
from ops.warm_up import warm_up
from p2p.channel.connection import WRITE_BYTES
from p2p.channel.sealing import KEY_BYTES, OVERHEAD_BYTES, RECORD_BYTES, Sealer
from p2p.reduce.means import segment_digest

LOG = Path(__file__).with_suffix(".log")
BAR_NS = 3.0
TURNS = 7
SEALED_BYTES = 32 << 20
LIMIT_S = 120.0


class Cpu(NamedTuple):
    """Seconds of this process."""

    all: float
    kernel: float

    @classmethod
    def now(cls) -> Cpu:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return cls(usage.ru_utime + usage.ru_stime, usage.ru_stime)


def cost(work: Callable[[], object], amount: int, repeats: int = 8) -> Cpu:
    """Nanoseconds for one of `amount` units that a call of `work` does: the median of some turns."""
    work()
    turns = []
    for _ in range(TURNS):
        before = Cpu.now()
        for _ in range(repeats):
            work()
        turns.append(Cpu(*(1e9 * (b - a) / amount / repeats for a, b in zip(before, Cpu.now(), strict=True))))
    return Cpu(*(statistics.median(column) for column in zip(*turns, strict=True)))


class Lane:
    """Both ends of a bulk lane; the record between them is in the cache, what is sent and what comes is not."""

    def __init__(self) -> None:
        self.data = memoryview(np.random.default_rng(0).bytes(SEALED_BYTES))
        self.room = memoryview(bytearray(SEALED_BYTES))
        self.record = memoryview(bytearray(RECORD_BYTES + OVERHEAD_BYTES))
        self.sealer = Sealer(bytes(KEY_BYTES))

    def encrypt(self) -> None:
        for start in range(0, SEALED_BYTES, RECORD_BYTES):
            self.sealer.seal(self.data[start : start + RECORD_BYTES], self.record)

    def decrypt(self) -> None:
        aead, nonce = AESGCM(bytes(KEY_BYTES)), bytes(12)
        sealed = aead.encrypt(nonce, self.data[:RECORD_BYTES], None)
        for start in range(0, SEALED_BYTES, RECORD_BYTES):
            aead.decrypt_into(nonce, sealed, None, self.room[start : start + RECORD_BYTES])


def tcp(amount: int) -> Callable[[], None]:
    """Sends `amount` bytes over loopback and receives them, as a reduce does: by WRITE_BYTES."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sender = socket.create_connection(listening.getsockname())
        receiver, _ = listening.accept()
    data, room = bytes(WRITE_BYTES), bytearray(WRITE_BYTES)

    def send() -> None:
        for _ in range(amount // WRITE_BYTES):
            sender.sendall(data)

    def work() -> None:
        sending = threading.Thread(target=send)
        sending.start()
        left = amount
        while left:
            left -= receiver.recv_into(room, min(left, len(room)))
        sending.join()

    return work


def parts(members: int, count: int) -> dict[str, Cpu]:
    """ns a value and node of everything that a reduce cannot do without."""
    codec = get_codec("int8")
    warm_up(codec)
    x = np.resize(np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32), count)
    out, mean = np.empty_like(x), Encoded.allocate(codec, count)
    codes = [Encoded.allocate(codec, count) for _ in range(members)]
    for one in codes:
        codec.quantise(x, one)
    weights = [1.0] * members
    bytes_moved = 2 * (members - 1) / members * codec.bits_per_value / 8
    lane = Lane()
    kernel = cost(tcp(16 << 20), 16 << 20, 2)
    return {
        "quantise": cost(lambda: codec.quantise(x, codes[0]), count, 1),
        "mean": scaled(cost(lambda: codec.mean(codes, weights, mean), count, 1), 1 / members),
        "digest": cost(lambda: segment_digest(mean), count, 1),
        "decode": cost(lambda: codec.decode(mean, out), count, 1),
        "encrypt": scaled(cost(lane.encrypt, SEALED_BYTES, 1), bytes_moved),
        "decrypt": scaled(cost(lane.decrypt, SEALED_BYTES, 1), bytes_moved),
        "TCP, both ways": scaled(kernel, bytes_moved),
    }


def parts_side_by_side(members: int, count: int) -> dict[str, Cpu]:
    """The same, the median of `members` processes at once."""
    with multiprocessing.get_context("spawn").Pool(members) as pool:
        found = pool.starmap(parts, [(members, count)] * members, chunksize=1)
    return {
        name: Cpu(*(statistics.median(column) for column in zip(*(one[name] for one in found), strict=True)))
        for name in found[0]
    }


def scaled(cost: Cpu, factor: float) -> Cpu:
    return Cpu(cost.all * factor, cost.kernel * factor)


class Whole(NamedTuple):
    """Of whole reduces, a value and node but for the counts, which are a reduce and node."""

    all: Cpu
    loop: Cpu
    """The thread of the event loop."""
    pool: Cpu
    """The threads of the kernels: quantise, mean, digest, decode."""
    yields: float
    """Times that a thread had nothing to do."""
    preemptions: float
    """Times that a thread had to make room for another."""
    faults: float
    """Pages that were touched for the first time."""


def whole(members: int, count: int) -> Whole:
    team = Team(OURS, members, count, {})
    try:
        team.start()
        for _ in range(2):  # the second takes memory that the first still holds
            team.turn(LIMIT_S)
        before = spent(team)
        turns = [team.turn(LIMIT_S) for _ in range(TURNS)]
        spent_now = spent(team)
    finally:
        team.stop()
    loop_user, loop_kernel, pool_user, pool_kernel, *counts = (b - a for a, b in zip(before, spent_now, strict=True))
    total = statistics.median(turn.cpu_seconds for turn in turns) / members / count * 1e9
    tick = total / (loop_user + loop_kernel + pool_user + pool_kernel)
    loop = Cpu(tick * (loop_user + loop_kernel), tick * loop_kernel)
    pool = Cpu(tick * (pool_user + pool_kernel), tick * pool_kernel)
    both = Cpu(total, loop.kernel + pool.kernel)
    return Whole(both, loop, pool, *(number / members / TURNS for number in counts))


def spent(team: Team) -> tuple[int, ...]:
    """Of all processes so far: clock ticks of loops in programs, and in the kernel for them; the same of other threads;
    switches of either kind; page faults."""
    ticks, switches, faults = {True: [0, 0], False: [0, 0]}, [0, 0], 0
    for process in team.processes:
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            fields = (thread / "stat").read_text().rsplit(")", 1)[1].split()
            is_loop = thread.name == str(process.pid)
            ticks[is_loop] = [a + int(b) for a, b in zip(ticks[is_loop], fields[11:13], strict=True)]
            faults += int(fields[7])
            last = (thread / "status").read_text().splitlines()[-2:]
            switches = [a + int(line.split()[1]) for a, line in zip(switches, last, strict=True)]
    return (*ticks[True], *ticks[False], *switches, faults)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--values", default="100,25", help="million values, comma-separated")
    options = parser.parse_args()
    report = Report()
    report(
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()},"
        f" {backend.openssl_version_text()}; load {os.getloadavg()[0]:.1f}; int8; ns a value and node"
    )
    for values in options.values.split(","):
        report(f"{options.members} x {values}M")
        profile(options.members, int(float(values) * 1e6), report)
    LOG.write_text("\n".join(report.lines) + "\n")


def profile(members: int, count: int, report: Report) -> None:
    found = parts_side_by_side(members, count)
    found["sum of these"] = Cpu(*map(sum, zip(*found.values(), strict=True)))
    total = whole(members, count)
    found |= {"a whole reduce": total.all, "  its event loop": total.loop, "  its kernels": total.pool}
    for name, ns in found.items():
        report(f"  {name:<16} {ns.all:5.2f}  (kernel {ns.kernel:.2f})")
    report(
        f"  a reduce and node: {total.yields:.0f} times a thread waited, {total.preemptions:.0f} times it was made to;"
        f" {total.faults:.0f} page faults"
    )
    report.bar("ns a value and node", total.all.all, BAR_NS)


if __name__ == "__main__":
    main()
