"""State transfer over links of given speed: how much of its link a newcomer gets, and what that costs the others.

    python benchmarks/transfer.py [--quick]      (7 minutes; --quick: smaller states, 3 minutes)

Real members and newcomers, a process and a network namespace each, with their up- and downlinks shaped by tc (token
buckets; no latency is added). It takes root, iproute2 and util-linux, and says so where it may not make namespaces. A
fetch is timed from the newcomer's first dial until every chunk is verified. Prints what it finds against the bars; a
full run writes it to benchmarks/transfer.log, too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.report import Report
from p2p.parent_death import die_with_parent
from swarm.simulate.network import Network, NoNamespaces

LOG = Path(__file__).with_suffix(".log")
WORKER = Path(__file__).with_name("transfer_node.py")
START_S = 120.0
FETCH_S = 180.0
LONG = 3600.0
"""Seconds of training, where no round is to commit."""
BYTES_PER_VALUE = 8


class Links(Network):
    """Hosts whose links to the others have a speed."""

    def shape(self, name: str, up: float, down: float) -> None:
        """Mbit/s out of the host, and into it."""
        port = f"port{self.address(name).rsplit('.', 1)[1]}"
        for host, device, mbit in ((name, "eth0", up), ("switch", port, down)):
            bucket = max(16_000, int(mbit * 1e6 / 8 / 250))  # bytes: 4 ms
            rule = f"tc qdisc add dev {device} root tbf rate {mbit}mbit burst {bucket} latency 50ms"
            subprocess.run([*self.inside(host), *rule.split()], check=True, capture_output=True)


class Process:
    """One transfer_node.py in a namespace."""

    def __init__(self, links: Links, name: str, up: float, down: float, **settings: Any) -> None:
        links.add(name)
        links.shape(name, up, down)
        self.name = name
        settings = {"host": links.address(name), "train_seconds": LONG, "damaged": False, **settings}
        command = [*links.inside(name), sys.executable, str(WORKER), json.dumps(settings)]
        parent = os.getpid()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent, signal.SIGKILL),
        )
        self.news: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.news.put(json.loads(line))
        self.news.put(None)

    def tell(self, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def wait(self, key: str, seconds: float, accept: Callable[[dict[str, Any]], bool] = lambda _: True) -> Any:
        """The next news that has this key and is acceptable; what comes before is dropped."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                news = self.news.get(timeout=left)
            except queue.Empty:
                break
            if news is None:
                raise SystemExit(f"{self.name} ended: see above")
            if key in news and accept(news):
                return news
        raise SystemExit(f"{self.name}: no {key} within {seconds:.0f} s")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Swarm:
    """Members that have founded a run."""

    def __init__(self, links: Links, members: int, values: int, mbit: float, **special: Any) -> None:
        """special: settings of the last member only, or of all if it is `train_seconds`."""
        common = {"role": "member", "values": values, "founders": members}
        if "train_seconds" in special:
            common["train_seconds"] = special.pop("train_seconds")
        self.links, self.values = links, values
        self.members = [
            Process(links, new_name("m"), mbit, mbit, **common, **(special if index == members - 1 else {}))
            for index in range(members)
        ]
        self.contacts = [member.wait("contact", START_S)["contact"] for member in self.members]
        for index, member in enumerate(self.members):
            member.tell(contacts=self.contacts, founds=index == 0)
        for member in self.members:
            member.wait("round", START_S)

    @property
    def peers(self) -> list[str]:
        return [contact["peer"] for contact in self.contacts]

    def newcomers(self, count: int, mbit: float, **settings: Any) -> list[Process]:
        common = {"role": "newcomer", "values": self.values, "founders": 1}
        found = [Process(self.links, new_name("n"), mbit, mbit, **common, **settings) for _ in range(count)]
        for newcomer in found:
            newcomer.wait("ready", START_S)
        return found

    def start_fetch(self, newcomer: Process) -> None:
        newcomer.tell(order="fetch", contacts=self.contacts)

    def fetch(self, newcomer: Process) -> dict[str, Any]:
        self.start_fetch(newcomer)
        return self.fetched(newcomer)

    def fetched(self, newcomer: Process) -> dict[str, Any]:
        return dict(newcomer.wait("fetched", FETCH_S))

    def half_way(self, newcomer: Process) -> None:
        newcomer.wait("chunks", FETCH_S, lambda news: news["chunks"] >= news["of"] // 2)

    def given(self) -> list[int]:
        for member in self.members:
            member.tell(order="report")
        return [member.wait("given", 10.0)["given"] for member in self.members]

    def stop(self, others: Sequence[Process] = ()) -> None:
        for process in (*others, *self.members):
            process.kill()


_names = iter(range(1, 1 << 16))


def new_name(kind: str) -> str:
    return f"{kind}{next(_names)}"


def link_and_death(report: Report, links: Links, values: int) -> None:
    """How much of its link a newcomer gets from 2 and 3 donors; the death of one of the 3 half-way."""
    mbit, donors_mbit = 200.0, 150.0
    ideal = values * BYTES_PER_VALUE * 8 / mbit / 1e6
    for donors in (2, 3):
        swarm = Swarm(links, donors, values, donors_mbit)
        [newcomer] = swarm.newcomers(1, mbit)
        clean = min((swarm.fetch(newcomer) for _ in range(2)), key=lambda found: found["fetched"])
        times = f"{clean['fetched']:.2f} s, {clean['core']:.2f} s of them in the fetch"
        report(f"{donors} donors of {donors_mbit:.0f} Mbit/s, a newcomer of {mbit:.0f}: {times}")
        report.bar("share of its link, payload only", ideal / clean["fetched"], 0.8, least=True)
        if donors == 3:
            swarm.start_fetch(newcomer)
            swarm.half_way(newcomer)
            swarm.members[1].kill()
            dead = swarm.fetched(newcomer)
            assert dead["root"] == clean["root"]
            assert dead["whole"]
            report(f"one of the 3 donors killed half-way: {dead['fetched']:.2f} s, {dead['bytes'] / 1e6:.0f} MB")
            report.bar("time against no death", dead["fetched"] / clean["fetched"], 1.2)
        swarm.stop([newcomer])


def corruption(report: Report, links: Links, values: int) -> None:
    """One donor of three whose memory is not what its digests say."""
    swarm = Swarm(links, 3, values, 150.0, damaged=True)
    newcomers = swarm.newcomers(1, 200.0)
    found = swarm.fetch(newcomers[0])
    liar = swarm.peers[-1]
    named = {peer for peer, _ in found["dropped"]}
    reasons = {reason.split(" for ")[0] for _, reason in found["dropped"]}
    verdict = "named, and nobody else" if named == {liar} else f"NOT the one named: {named}"
    report(f"1 donor of 3 gives other bytes than its digests: it is {verdict} ({'; '.join(sorted(reasons))})")
    report(f"  state of round {0 if found['whole'] else '?'} verified in {found['fetched']:.2f} s")
    swarm.stop(newcomers)


def crowd(report: Report, links: Links, values: int) -> None:
    """Eight newcomers at once."""
    donors, mbit = 4, 100.0
    swarm = Swarm(links, donors, values, mbit)
    newcomers = swarm.newcomers(8, 100.0)
    before = swarm.given()
    for newcomer in newcomers:
        swarm.start_fetch(newcomer)
    times = [swarm.fetched(newcomer)["fetched"] for newcomer in newcomers]
    given = [after - then for after, then in zip(swarm.given(), before, strict=True)]
    total = 8 * values * BYTES_PER_VALUE
    ideal = max(values * BYTES_PER_VALUE * 8 / 100e6, total * 8 / (donors * mbit * 1e6))
    report(
        f"8 newcomers of 100 Mbit/s at once from {donors} donors of {mbit:.0f}: {min(times):.1f} to {max(times):.1f} s"
    )
    report(f"  given: {', '.join(f'{one / 1e6:.0f}' for one in given)} MB, {sum(given) / total:.3f} of what is needed")
    report.bar("the donor that gave most against the one that gave least", max(given) / min(given), 1.5)
    report(f"  the last one has its state after {max(times) / ideal:.2f} times what the links alone would take")
    swarm.stop(newcomers)


def restart(report: Report, links: Links, values: int, folder: Path) -> None:
    """SIGKILL half-way; the same node again."""
    swarm = Swarm(links, 3, values, 150.0)
    path = str(folder / "state")
    first = swarm.newcomers(1, 200.0, state=path)
    swarm.start_fetch(first[0])
    swarm.half_way(first[0])
    first[0].kill()
    second = swarm.newcomers(1, 200.0, state=path)
    found = swarm.fetch(second[0])
    share = found["bytes"] / (values * BYTES_PER_VALUE)
    report(
        f"newcomer killed half-way and started again: {found['fetched']:.2f} s, {share:.2f} of the state fetched anew"
    )
    report.bar("of the state fetched after the restart", share, 0.75)
    swarm.stop(second)


def incumbents(report: Report, links: Links, values: int, rounds: int) -> None:
    """Round times of three members with and without a newcomer that fetches all the time; stretches alternate."""
    swarm = Swarm(links, 3, values, 200.0, train_seconds=2.0)
    [newcomer] = swarm.newcomers(1, 200.0)
    times: dict[bool, list[float]] = {False: [], True: []}
    feeder = Feeder(swarm, newcomer)
    for stretch in range(4):
        busy = stretch % 2 == 1
        if busy:
            feeder.start()
        swarm.members[0].news.queue.clear()
        # the first is the rest of a round that began before
        found = [swarm.members[0].wait("round", 60.0)["seconds"] for _ in range(rounds + 1)]
        times[busy] += found[1:]
        if busy:
            feeder.stop()
    quiet, loaded = statistics.mean(times[False]), statistics.mean(times[True])
    report(f"3 members, {values / 1e6:.0f}M values, 200 Mbit/s, 2 s of training a round; {feeder.fetches} fetches")
    report(f"  a round: {quiet:.3f} s alone, {loaded:.3f} s while one newcomer fetches ({2 * rounds} rounds each)")
    report.bar("round time against none fetching", loaded / quiet, 1.05)
    swarm.stop([newcomer])


class Feeder:
    """Lets a newcomer fetch again and again."""

    def __init__(self, swarm: Swarm, newcomer: Process) -> None:
        self.fetches = 0
        self._swarm, self._newcomer = swarm, newcomer

    def start(self) -> None:
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._swarm.fetch(self._newcomer)
            self.fetches += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller states")
    parser.add_argument("--only", help="comma-separated: link, corruption, crowd, restart, incumbents")
    options = parser.parse_args()
    values = 8_000_000 if options.quick else 32_000_000
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        try:
            links = Links(Path(folder))
        except NoNamespaces as error:
            raise SystemExit(f"skipped: {error}") from None
        scenes: dict[str, Callable[[], None]] = {
            "link": lambda: link_and_death(report, links, values),
            "corruption": lambda: corruption(report, links, values),
            "crowd": lambda: crowd(report, links, values // 2),
            "restart": lambda: restart(report, links, values, Path(folder)),
            "incumbents": lambda: incumbents(report, links, 4_000_000, 4 if options.quick else 10),
        }
        report(f"state transfer, {values / 1e6:.0f}M values = {values * BYTES_PER_VALUE / 1e6:.0f} MB of state")
        load = os.getloadavg()[0]
        report(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}")
        try:
            for name, scene in scenes.items():
                if not options.only or name in options.only.split(","):
                    scene()
        finally:
            links.close()
    if not options.quick and not options.only:
        LOG.write_text("\n".join(report.lines) + "\n")


if __name__ == "__main__":
    main()
