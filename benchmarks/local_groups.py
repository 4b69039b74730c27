"""A swarm of nodes with 1, 2 and 4 local ranks, through a join and a kill: are its members equal to the last bit?

    python benchmarks/local_groups.py          # prints the table and writes benchmarks/local_groups.log

Real node processes on this machine, each of which starts its other ranks itself. Nodes with local groups of 1, 2 and 4
ranks found a run of the demo model; after round 6 a node with 2 ranks joins, after round 12 the first node with 2 ranks
is killed with SIGKILL. A row has, for a round, how many ranks each member had, and the digests of theta and momentum
that every member reported after it. Exit status 1 if the digests of any round differ, a round does not come, or any
process of a killed or ended node is left.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.codec import processor
from swarm.config import RunConfig
from tests.e2e.processes import NodeProcess, Processes, processes

LOG = Path(__file__).with_suffix(".log")
FOUNDERS = (1, 2, 4)
JOINER = 2
JOIN_AFTER, KILL_AFTER = 6, 12
SECONDS = 600.0
RUN = RunConfig(name="local groups", founders=len(FOUNDERS), inner_steps=6, batch_size=8, sequence_length=64)


def play(group: Processes, rounds: int) -> dict[str, int]:
    """Until all who are left have committed the last round; returns the local ranks of each peer."""
    first, victim, *_ = founders = [_start(group, size) for size in FOUNDERS]
    first.wait_round(JOIN_AFTER, SECONDS)
    joiner = _start(group, JOINER)
    first.wait_round(max(KILL_AFTER, 1 + max(first.rounds())), SECONDS)
    joiner.wait_round(1, SECONDS)
    victim.child.kill()
    for node in (*founders, joiner):
        if node is not victim:
            node.wait_round(rounds, SECONDS)
    sizes = (*FOUNDERS, JOINER)
    return {next(iter(node.rounds().values())).peer: size for node, size in zip(group.nodes, sizes, strict=True)}


def _start(group: Processes, size: int) -> NodeProcess:
    bootstrap = group.address() if group.nodes else ()
    return group.start(RUN, found=not group.nodes, bootstrap_peers=bootstrap, local_world_size=size)


def table(group: Processes, sizes: dict[str, int], rounds: int) -> tuple[list[str], bool]:
    """A row for each round, and whether all members agree in all of them."""
    lines, equal = [f"{'round':>5}  {'ranks of members':<18}{'in the mean':>12}{'loss':>8}   theta, momentum"], True
    for number in range(rounds + 1):
        reports = [node.rounds()[number] for node in group.nodes if number in node.rounds()]
        states = {(report.record, report.theta_digest, report.momentum_digest) for report in reports}
        members = " ".join(str(size) for size in sorted(sizes[peer] for peer in reports[0].members))
        losses = [report.loss for report in reports if report.loss is not None]
        loss = f"{sum(losses) / len(losses):.3f}" if losses else "-"
        shown = ", ".join(digest[:16] for digest in (reports[0].theta_digest, reports[0].momentum_digest))
        verdict = f"equal on {len(reports)}" if len(states) == 1 else f"{len(states)} DIFFERENT STATES"
        lines.append(f"{number:>5}  {members:<18}{reports[0].contributors:>12}{loss:>8}   {shown}, {verdict}")
        equal = equal and len(states) == 1
    return lines, equal


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds to commit (default: %(default)s)")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="swarm-") as directory, processes(Path(directory)) as group:
        sizes = play(group, arguments.rounds)
        lines, equal = table(group, sizes, arguments.rounds)
    head = f"{processor()}, {len(group.nodes)} nodes, {time.monotonic() - began:.0f} s"
    text = "\n".join([head, "", *lines, "", f"bit-identical: {'yes' if equal else 'NO'}", ""])
    print(text)
    LOG.write_text(text)
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
