"""The reduce over links of the real world: its time against what the links' rates allow.

    python benchmarks/links.py [--values 10] [--members 4] [--only NAME,...]     (root, /dev/net/tun, a C compiler)

Mesh and reducer of a real node, one process and network namespace each; between them access links with rate,
delay, loss and a queue, emulated by a program of ours (link_emulator.c), for kernels without netem. Each case reduces
one int8 vector several times; the first is a warm-up: connections are young. `bound` is 2(N-1)/N times the codes' bytes
over the rate, or for unequal links what the best shares of the work take. Where the codes were packed, fewer bytes were
sent: `sent` is what the sockets took, records' headers with it, of the codes' bytes. In brackets: what was sent, with
the headers of TCP, IP and Ethernet, what is lost and sent again, and half a round trip for the last mean's way;
acknowledgements, which share the links, are not counted. Between two reduces there is a pause, as nodes train then:
after 10 s without data BBR takes the round trip's time anew, for which it stops sending otherwise. The namespaces'
congestion control is reno, which stands for what most machines have: there only it and BBR may be chosen. The machine
does all nodes' work and the emulator's: a case is marked when the cores were busier than 85 %, and the load says what
else ran. A run of all cases is appended to benchmarks/links.log.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.link_hosts import Hosts, Line, NoLinks, Way
from benchmarks.report import Report
from ops.codec import get_codec
from p2p.protocol.ballot import Ballot
from p2p.protocol.messages import Plan, Ready, encode
from p2p.protocol.plan import Head, Rules, fresh
from p2p.protocol.shares import Rates, best_shares, seconds

WORKER = Path(__file__).with_name("links_node.py")
LOG = Path(__file__).with_suffix(".log")
FINGERPRINT = bytes(32)
HEADERS = 1514 / 1448
"""Ethernet's, IP's and TCP's around 1448 bytes."""


@dataclass(frozen=True)
class Case:
    mbit: float
    rtt_ms: float
    loss: float = 0.0
    unequal: float = 1.0
    """How many times faster the other members' links are than the last one's."""
    slows_by: float = 1.0
    """How many times slower the last member's link becomes in the middle."""
    bar: float = 0.90

    def lines(self, members: int) -> list[Line]:
        fast, slow = self.mbit, self.mbit / self.unequal
        return [Line(fast, fast)] * (members - 1) + [Line(slow, slow)]


CASES = {
    "100mbit": Case(100, 100),
    "500mbit": Case(500, 50),
    "1gbit-near": Case(1000, 30),
    "1gbit-far": Case(1000, 150),
    "loss": Case(100, 100, loss=0.01),
    "unequal": Case(100, 50, unequal=10, bar=1 / 1.15),
    "slows": Case(100, 50, slows_by=10, bar=1 / 1.15),
}


class Swarm:
    """Linked nodes; the benchmark is their coordinator."""

    def __init__(self, hosts: Hosts, values: int) -> None:
        self.hosts, self.nodes = hosts, hosts.all
        said = [node.news() for node in self.nodes]
        self.peers = [news["peer"] for news in said]
        contacts = [(news["peer"], node.address, news["port"]) for news, node in zip(said, self.nodes, strict=True)]
        for rank, node in enumerate(self.nodes):
            node.tell(dial=contacts[:rank], peers=len(self.nodes) - 1)
        for node in self.nodes:
            node.news()
        time.sleep(1.0)  # the bulk lanes come up behind the first one
        codec = get_codec("int8")
        self.rules = Rules(FINGERPRINT, values, codec.name, codec.block, quota=0)
        self.round = -1
        self.rates: dict[str, Rates] = {}

    def plan(self) -> Plan:
        self.round += 1
        ready = {peer: Ready(round=0, tokens=1, used=()) for peer in self.peers}
        ballot = Ballot(round=self.round, attempt=0, rank=0, lineage=0)
        return fresh(self.rules, Head(FINGERPRINT), ballot, ready, b"", self.peers, self.rates)

    def reduce(self, meanwhile: Callable[[], None] = lambda: None) -> Turn:
        plan = self.plan()
        order = encode(plan).hex()
        before = self.hosts.emulator_cpu()
        for node in self.nodes:
            node.tell(plan=order)
        meanwhile()
        found = [node.news() for node in self.nodes]
        assert len({tuple(news["digests"]) for news in found}) == 1, "members differ"
        self.rates = {peer: Rates(*news["rates"]) for peer, news in zip(self.peers, found, strict=True)}
        owned = [0.0] * len(self.peers)
        for start, segment, route in zip((0, *spans(plan)), plan.draft.segments, plan.routes, strict=False):
            owned[self.peers.index(plan.draft.members[route.owner])] += (segment.stop - start) / self.rules.count
        seconds = max(news["ended"] for news in found) - min(news["began"] for news in found)
        codes = 2 * (len(self.peers) - 1) * self.rules.count * bytes_per_value()
        return Turn(
            seconds,
            sum(news["sent"] for news in found) / codes,
            sum(news["cpu"] for news in found),
            self.hosts.emulator_cpu() - before,
            owned,
            dict(self.rates),
        )


@dataclass(frozen=True)
class Turn:
    seconds: float
    sent: float
    """Bytes that the sockets took, of those of the codes."""
    nodes_cpu: float
    emulator_cpu: float
    owned: list[float]
    """Share of the vector that each member reduced."""
    rates: dict[str, Rates]
    """What they say of their links afterwards."""

    @property
    def measured(self) -> str:
        said = " ".join(f"{rate.up * 8e-6:.0f}/{rate.down * 8e-6:.0f}" for rate in self.rates.values())
        return f"shares {' '.join(f'{100 * share:.0f}' for share in self.owned)}; then measured {said} Mbit/s"

    @property
    def busy(self) -> float:
        """Share of this machine's cores that the case took."""
        return (self.nodes_cpu + self.emulator_cpu) / self.seconds / (os.cpu_count() or 1)


def spans(plan: Plan) -> tuple[int, ...]:
    return tuple(segment.stop for segment in plan.draft.segments)


def optimum(lines: list[Line], values: int) -> float:
    """Seconds that the best shares take, headers left out."""
    rates = [Rates(line.up, line.down) for line in lines]
    everybody = [True] * len(lines)
    best = seconds(rates, everybody, best_shares(rates, everybody, [1.0] * len(lines)))
    return best * values * bytes_per_value() * 8 / 1e6


def bytes_per_value() -> float:
    return get_codec("int8").bits_per_value / 8


def play(name: str, case: Case, options: argparse.Namespace, report: Report) -> None:
    values, lines = int(options.values * 1e6), case.lines(options.members)
    hosts = Hosts(WORKER, lines, Way(case.rtt_ms, case.loss), options.congestion, values=values, lanes=options.lanes)
    with hosts:
        swarm = Swarm(hosts, values)
        turns = [swarm.reduce()]
        for _ in range(options.turns):
            time.sleep(options.pause)
            turns.append(swarm.reduce())
        show(name, case, optimum(lines, values), turns, options, report)
        if case.slows_by > 1:
            slow_down(name, case, swarm, options, report)


def show(name: str, case: Case, bound: float, turns: list[Turn], options: argparse.Namespace, report: Report) -> None:
    times = [turn.seconds for turn in turns[1:]]
    median = statistics.median(times)
    sent = statistics.median(turn.sent for turn in turns[1:])
    possible = bound * sent * HEADERS / (1 - case.loss) + case.rtt_ms / 2e3
    busy = statistics.median(turn.busy for turn in turns[1:])
    nodes, emulator = (
        statistics.median(cpu) for cpu in zip(*((turn.nodes_cpu, turn.emulator_cpu) for turn in turns[1:]), strict=True)
    )
    report(
        f"{name:<11} {options.members} x {options.values:g}M  {case.mbit:4.0f} Mbit/s {case.rtt_ms:3.0f} ms"
        f"  {median:7.3f} s ({min(times):.3f}-{max(times):.3f})"
        f"  bound {bound:.3f} s [{possible:.3f}]  {bound / median:.2f} of it [{possible / median:.2f}]"
        f" (first {bound / turns[0].seconds:.2f}; bar {case.bar:.2f})  sent {sent:.3f}"
        f"  cores {100 * busy:.0f} % busy (CPU: nodes {nodes:.2f} s, emulator {emulator:.2f} s)"
        f"{'  machine-limited' if busy > 0.85 else ''}  {turns[-1].measured}"
    )


def slow_down(name: str, case: Case, swarm: Swarm, options: argparse.Namespace, report: Report) -> None:
    """The last member's link becomes slow in the middle of one reduce; what do the next ones take?"""
    lines = case.lines(options.members)
    before, slow = optimum(lines, swarm.rules.count), case.mbit / case.slows_by
    lines[-1] = Line(slow, slow)

    def meanwhile() -> None:
        time.sleep(before / 2)
        swarm.hosts.reshape(len(lines) - 1, lines[-1])

    turns = [swarm.reduce(meanwhile), swarm.reduce(), swarm.reduce()]
    bound = optimum(lines, swarm.rules.count)
    for turn, when in zip(turns, ("when it slows", "the next", "the one after"), strict=True):
        figures = f"{turn.seconds:7.3f} s  bound then {bound:.3f} s  sent {turn.sent:.3f}"
        report(f"{name:<11}   {when:<14} {figures}  {turn.measured}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=float, default=10, help="million values")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--only", help="comma-separated: " + ", ".join(CASES))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--pause", type=float, default=11.0, help="seconds between two reduces")
    parser.add_argument("--lanes", type=int, default=1, help="bulk connections between two nodes")
    parser.add_argument("--congestion", default="reno", help="congestion control of the namespaces")
    options = parser.parse_args()
    report = Report()
    report(
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()};"
        f" load {os.getloadavg()[0]:.1f}; {options.congestion}, {options.lanes} lanes"
    )
    try:
        for name, case in CASES.items():
            if not options.only or name in options.only.split(","):
                play(name, case, options, report)
    except NoLinks as error:
        raise SystemExit(f"skipped: {error}") from None
    if not options.only:
        with LOG.open("a") as log:
            log.write("\n".join(report.lines) + "\n\n")


if __name__ == "__main__":
    main()
