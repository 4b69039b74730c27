"""Nodes find each other: 100 simultaneous starts, some with a bootstrap node that dies; and those who lost everybody.

    python benchmarks/discovery.py [--quick]      (15 minutes; --quick: a few of each)

Real DHT processes and real meshes (benchmarks/discovery_nodes.py), no training. Times count from the moment at which
processes that have imported everything are let go, until each is linked with each. Every line is one start; the summary
comes last. A full run writes all of it to benchmarks/discovery.log, too. The returns need network namespaces (root).
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.discovery_nodes import LIMIT_SECONDS, Node, Nodes, linked

LOG = Path(__file__).with_suffix(".log")
CUT_SECONDS = 45.0
"""Longer than a silent link lives."""


class Report:
    """Prints, and keeps for the log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str = "") -> None:
        print(text, flush=True)
        self.lines.append(text)


class World:
    """Folders for nodes, and an end for all of them."""

    def __init__(self, directory: Path) -> None:
        self.nodes = Nodes()
        self.members: list[Node] = []
        self._directory = directory

    def node(self, name: str, **options: object) -> Node:
        node = Node(name, self._directory / name, **options)  # type: ignore[arg-type]
        self.members.append(node)
        return node

    def wait(self, seconds: float = LIMIT_SECONDS) -> bool:
        return self.nodes.until(lambda: linked(self.members) or any(node.failed for node in self.members), seconds)

    def seconds(self, began: float) -> float:
        """From then until the last link came up."""
        return max(node.linked_at for node in self.members) - began

    def story(self) -> str:
        names = {node.peer: node.name for node in self.members}
        return "; ".join(
            f"{n.name} linked with {sorted(names[p] for p in n.links)} {n.failed} {n.notices[-3:]}"
            for n in self.members
        )


@contextmanager
def world() -> Iterator[World]:
    directory = Path(tempfile.mkdtemp(prefix="swarm-discovery-"))
    made = World(directory)
    try:
        yield made
    finally:
        made.nodes.kill(made.members)
        shutil.rmtree(directory)


# --- simultaneous starts


def one_bootstrap_node(made: World, count: int) -> None:
    bootstrap = made.node("bootstrap", dht_only=True)
    for index in range(count):
        made.node(f"n{index}", bootstrap=[bootstrap.address])


def all_name_all(made: World, count: int) -> None:
    members = [made.node(f"n{index}", must_join=False) for index in range(count)]
    for member in members:
        member.bootstrap = [other.address for other in members]


def all_name_one_of_them(made: World, count: int) -> None:
    members = [made.node(f"n{index}") for index in range(count)]
    for member in members:
        member.bootstrap = [members[-1].address]  # which is let go last


def each_names_the_next(made: World, count: int) -> None:
    members = [made.node(f"n{index}", must_join=False) for index in range(count)]
    for member, following in itertools.pairwise([*members, members[0]]):
        member.bootstrap = [following.address]


SHAPES: list[Callable[[World, int], None]] = [
    one_bootstrap_node,
    all_name_all,
    all_name_one_of_them,
    each_names_the_next,
]


def starts(report: Report, count: int, seed: int) -> tuple[list[float], int]:
    """(seconds of each start that became one swarm, how many did not)."""
    times, splits = [], 0
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        size, shape, spread = 4 + number % 5, SHAPES[number // 5 % len(SHAPES)], (0.0, 0.5)[number % 2]
        with world() as made:
            shape(made, size)
            began = made.nodes.start(made.members, [rng.uniform(0.0, spread) for _ in made.members])
            whole = made.wait()
            seconds = made.seconds(began)
            others = {node.peer for node in made.members if not node.dht_only}
            by_dht = all(node.found >= others - {node.peer} for node in made.members if not node.dht_only)
            text = f"start {number:3}  {size} nodes  {shape.__name__:21}  spread {spread:.1f} s  "
            if whole and linked(made.members):
                times.append(seconds)
                report(f"{text}one swarm in {seconds:5.2f} s{'' if by_dht else '  (the DHT had not told all of all)'}")
            else:
                splits += 1
                report(f"{text}NOT ONE SWARM in {LIMIT_SECONDS:.0f} s: {made.story()}")
    return times, splits


# --- mishaps during a start


def dying_bootstrap(report: Report, count: int, seed: int) -> tuple[list[float], list[float]]:
    """Seconds until whole, (a) of those who list another too, (b) of those who don't, after the bootstrap's return."""
    two, one = [], []
    for number in range(count):
        rng = random.Random(f"{seed}/dying/{number}")
        with world() as made:
            bootstrap = made.node("bootstrap", dht_only=True)
            members = [made.node(f"n{index}") for index in range(5)]
            for index, member in enumerate(members):
                member.bootstrap = [bootstrap.address] + [members[index - 1].address] * (number % 2)
            death = rng.uniform(0.0, 1.5)
            began = made.nodes.start(made.members, [0.0] * 6)
            made.nodes.watch(death)
            made.nodes.kill([bootstrap])
            text = f"bootstrap dies after {death:.2f} s, "
            if number % 2:
                whole = made.wait()
                two.append(made.seconds(began) if whole else float("nan"))
                report(f"{text}nodes list another too: one swarm in {two[-1]:.2f} s")
                continue
            made.nodes.watch(6.0)
            parts = groups(members)
            returned = made.nodes.start([bootstrap], [0.0])
            whole = made.wait()
            one.append(max(0.0, made.seconds(returned)) if whole else float("nan"))
            report(f"{text}and is all they list: {parts}; one swarm {one[-1]:.2f} s after its return")
    return two, one


def groups(members: list[Node]) -> str:
    """Sizes of the parts that are linked within."""
    left, sizes = {node.peer: node for node in members}, []
    while left:
        reached, todo = set[str](), [next(iter(left))]
        while todo:
            peer = todo.pop()
            if peer in left and peer not in reached:
                reached.add(peer)
                todo += left[peer].links
        sizes.append(len(reached))
        left = {peer: node for peer, node in left.items() if peer not in reached}
    return "groups of " + " + ".join(map(str, sorted(sizes, reverse=True)))


# --- those who lost everybody


def restarts(report: Report, count: int) -> list[float]:
    """A node is killed and starts again, at another port, when the bootstrap node is dead."""
    times = []
    with world() as made:
        one_bootstrap_node(made, 5)
        made.nodes.start(made.members, [0.0] * 6)
        assert made.wait(), made.story()
        made.nodes.watch(3.0)  # they write down whom they met
        made.nodes.kill(made.members[:1])
        for number in range(count):
            node = made.members[1 + number % 5]
            made.nodes.kill([node])
            made.nodes.watch(1.0)
            began = made.nodes.start([node], [0.0])
            whole = made.wait()
            times.append(made.seconds(began) if whole else float("nan"))
            report(f"restart without a bootstrap node: linked with all in {times[-1]:.2f} s")
            made.nodes.watch(3.0)
    return times


def cuts(report: Report, count: int) -> list[float]:
    """A node is cut off, the bootstrap node dies meanwhile, the cable is plugged in again."""
    times = []
    with namespaces(6) as hosts, world() as made:
        bootstrap = made.node("bootstrap", dht_only=True, host=hosts[0], namespace="swarm0")
        for index in range(1, 6):
            options = {"bootstrap": [bootstrap.address], "host": hosts[index], "namespace": f"swarm{index}"}
            made.node(f"n{index}", **options)
        made.nodes.start(made.members, [0.0] * 6)
        assert made.wait(), made.story()
        for number in range(count):
            index = 1 + number % 5
            ip("-n", "swarmhub", "link", "set", f"hub{index}", "down")
            made.nodes.watch(1.0)
            made.nodes.kill([bootstrap])
            lost = made.nodes.until(lambda index=index: not made.members[index].links, CUT_SECONDS)  # type: ignore[misc]
            assert lost, made.story()
            made.nodes.watch(CUT_SECONDS)
            ip("-n", "swarmhub", "link", "set", f"hub{index}", "up")
            began = time.monotonic()
            whole = made.wait()
            times.append(made.seconds(began) if whole else float("nan"))
            report(f"a node that lost everybody for {CUT_SECONDS:.0f} s: linked with all again in {times[-1]:.2f} s")
    return times


@contextmanager
def namespaces(count: int) -> Iterator[list[str]]:
    """Hosts of their own, joined by a router; their addresses. Raises OSError where that is not permitted."""
    made = []
    try:
        for name in ("swarmhub", *(f"swarm{index}" for index in range(count))):
            ip("netns", "add", name)
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        for index in range(count):
            name, hub = f"swarm{index}", f"hub{index}"
            ip("link", "add", hub, "netns", "swarmhub", "type", "veth", "peer", "name", "eth0", "netns", name)
            for where, device, address in (("swarmhub", hub, 1), (name, "eth0", 2)):
                ip("-n", where, "addr", "add", f"10.99.{index}.{address}/24", "dev", device)
                ip("-n", where, "link", "set", device, "up")
            ip("-n", name, "route", "add", "default", "via", f"10.99.{index}.1")
        ip("netns", "exec", "swarmhub", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield [f"10.99.{index}.2" for index in range(count)]
    finally:
        for name in made:
            ip("netns", "del", name)


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def spread(times: list[float]) -> str:
    whole = [seconds for seconds in times if seconds == seconds]
    if not whole:
        return "never"
    failed = len(times) - len(whole)
    return (
        f"p50 {statistics.median(whole):.2f} s, max {max(whole):.2f} s of {len(whole)}"
        f"{f'; {failed} NEVER' if failed else ''}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few of each")
    parser.add_argument("--starts", type=int, help="simultaneous starts; 100 unless quick")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    gc.freeze()  # children do not touch, and so copy, our pages
    count = options.starts or (5 if options.quick else 100)
    few = 2 if options.quick else 10
    report = Report()
    report(f"discovery on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    report(f"load of the machine before: {os.getloadavg()[0]:.1f}\n")
    times, splits = starts(report, count, options.seed)
    report()
    two, one = dying_bootstrap(report, 2 * few, options.seed)
    report()
    back = restarts(report, few)
    report()
    try:
        again = spread(cuts(report, few // 2))
    except OSError as error:
        again = f"not measured: {error}"
    report()
    report(f"simultaneous starts of 4 to 8 nodes: {len(times)} of {count} became one swarm, {splits} did not")
    report(f"until everybody is linked with everybody: {spread(times)}")
    report(f"bootstrap node dies during the start, nodes list another too: {spread(two)}")
    report(f"bootstrap node dies during the start and is all they list, after its return: {spread(one)}")
    report(f"a node restarts at another port and the bootstrap node is dead: {spread(back)}")
    report(f"a node that had lost everybody, the bootstrap node dead, after the cut: {again}")
    report(f"load of the machine after: {os.getloadavg()[0]:.1f}")
    if count >= 100:
        LOG.write_text("\n".join(report.lines) + "\n")


if __name__ == "__main__":
    main()
