"""How soon a death is noticed, and whether anybody is taken for dead who is not.

    python benchmarks/detection.py                (6 minutes; also written to benchmarks/detection.log)
    python benchmarks/detection.py --times 2

Four real nodes whose wall clocks are right, 300 s ahead, 300 s behind, and right. In turn one of them, the coordinator
too, is killed (SIGKILL) and started again, and frozen (SIGSTOP) until all others have noticed. Each of the others tells
when it counts the victim as dead; the slowest of them is what counts. Nobody else may be taken for dead, not in the
quiet minute at the end either.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from swarm.events import Dead, Round
from tests.e2e.processes import QUICK, NodeProcess, processes

LOG = Path(__file__).with_suffix(".log")
CLOCKS = (0.0, 300.0, -300.0, 0.0)
BARS = {"SIGKILL": 3.0, "SIGSTOP": 10.0}
TIMES = 8
QUIET_SECONDS = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=TIMES, help="how often each fault is done")
    options = parser.parse_args()
    lines = [f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the beginning"]
    with tempfile.TemporaryDirectory() as folder, processes(Path(folder)) as group:
        first = group.start(QUICK.model_copy(update={"founders": len(CLOCKS)}), found=True, clock=CLOCKS[0])
        run = QUICK.model_copy(update={"founders": len(CLOCKS)})
        for clock in CLOCKS[1:]:
            group.start(run, bootstrap_peers=group.address(first), found=False, clock=clock)
        nodes, struck, found = group.nodes, list[tuple[str, float]](), dict[str, list[float]]()
        together(nodes, time.time())
        for number in range(options.times):
            for how in BARS:
                victim = nodes[number % len(nodes)]
                struck.append((victim.peer, time.time()))
                seconds = strike(how, victim, [node for node in nodes if node is not victim])
                found.setdefault(how, []).append(seconds)
                print(f"{how} of {victim.peer[-6:]}: {seconds:.2f} s", flush=True)
                together(nodes, time.time())
        time.sleep(QUIET_SECONDS)
        group.same_digests()
        false, quiet = false_evictions(nodes, struck)
    missed = 0
    for how, limit in BARS.items():
        times = sorted(found[how])
        missed += times[-1] > limit
        lines.append(
            f"{how}: noticed by all others after {times[0]:.2f} to {times[-1]:.2f} s, median "
            f"{statistics.median(times):.2f} s, {len(times)} times (<= {limit:.0f} s: {verdict(times[-1] <= limit)})"
        )
    shown = ", ".join(f"{clock:+.0f}" for clock in CLOCKS)
    lines.append(f"clocks wrong by {shown} s: {false} false evictions in {quiet:.0f} s (none: {verdict(not false)})")
    print("\n".join(lines))
    if options.times >= TIMES:
        LOG.write_text("\n".join([*lines, ""]))
    return int(missed + false > 0)


def strike(how: str, victim: NodeProcess, others: Sequence[NodeProcess]) -> float:
    """Do it, and return the seconds until the last of the others has noticed. Then the victim is there again."""
    peer, since = victim.peer, time.time()
    if how == "SIGKILL":
        victim.child.kill()
    else:
        victim.child.freeze()
    told = [(node, node.wait(Dead, lambda event: event.peer == peer, since=since)) for node in others]
    seconds = max(node.time_of(dead) for node, dead in told) - since
    if how == "SIGKILL":
        victim.again()
    else:
        victim.child.thaw()
    return seconds


def together(nodes: Sequence[NodeProcess], since: float) -> None:
    """Return when all have trained in a round with all."""
    for node in nodes:
        node.wait(Round, lambda event: event.tokens > 0 and len(event.members) == len(nodes), since=since)


def false_evictions(nodes: Sequence[NodeProcess], struck: Sequence[tuple[str, float]]) -> tuple[int, float]:
    """How often somebody was taken for dead to whom nothing had been done, and how long that was watched for."""
    false = 0
    for node in nodes:
        node.read()
        for at, event in zip(node.times, node.events, strict=True):
            if isinstance(event, Dead):
                false += not any(event.peer == peer and 0 <= at - since <= 30.0 for peer, since in struck)
    return false, time.time() - min(node.times[0] for node in nodes)


def verdict(good: bool) -> str:
    return "met" if good else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
