"""Nodes with local groups of several ranks: one member each, and what happens when a rank is lost."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from swarm.events import Left, PeerDown, RankLost, Round, Started, Synced, Train
from tests.e2e.processes import QUICK, NodeProcess, Processes, processes

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(600)]
SECONDS = 120.0


def ranks_of(node: NodeProcess) -> list[int]:
    """Process ids of the node's other local ranks."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended while we looked
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == node.child.pid and b"swarm.train.ranks" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
    return sorted(found)


def lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_node_that_loses_a_rank_leaves_and_comes_back_by_itself(tmp_path: Path) -> None:
    """Twice: the rank is killed, then one is stopped, which nothing but its silence tells."""
    with processes(tmp_path) as group:
        group.run = QUICK.model_copy(update={"founders": 2})
        other = group.start(group.run, found=True)
        node = group.start(group.run, found=False, bootstrap_peers=group.address(), local_world_size=2)
        other.wait_round(1, SECONDS)
        killed = lose_a_rank(group, signal.SIGKILL, "was killed by SIGKILL", restarts=0)
        stopped = lose_a_rank(group, signal.SIGSTOP, "has given no sign of life for 8 s", restarts=1)
        group.same_digests()
        assert killed != stopped
        last = ranks_of(node)
        assert len(last) == 1
        for pid in (node.child.pid, *last):
            maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
            named = [line for line in maps if "/dev/shm" in line and not line.endswith("(deleted)")]
            assert named == [], "memory with a name may stay behind"
    assert not any(lives(rank) for rank in (killed, stopped, *last))


def lose_a_rank(group: Processes, number: signal.Signals, reason: str, restarts: int) -> int:
    """Send its second node's rank 1 a signal, and wait until that node trains with the first one again."""
    other, node = group.nodes
    pid, [rank] = node.child.pid, ranks_of(node)
    peer = node.wait(Started).peer
    reached = max(other.rounds())
    both = other.wait(Round, lambda event: event.round > reached and event.contributors == 2, SECONDS)
    downs = sum(isinstance(event, PeerDown) for event in other.events)
    os.kill(rank, number)
    lost = node.wait(RankLost, lambda event: event.restarts == restarts, SECONDS)
    assert (lost.rank, lost.reason) == (1, reason)
    node.wait(Left, lambda event: event.round >= both.round)
    other.wait(PeerDown, lambda event: len([e for e in other.events if isinstance(e, PeerDown)]) > downs)
    assert next(e for e in reversed(other.events) if isinstance(e, PeerDown)).reason.endswith("leaving")
    other.wait_round(max(other.rounds()) + 1)  # it goes on alone
    alone = max(other.rounds())
    back = other.wait(Round, lambda event: event.round > alone and event.contributors == 2, SECONDS)
    assert peer in back.members
    assert node.child.pid == pid
    node.read()
    assert [event for event in node.events if isinstance(event, Synced)][-1].donors == 1
    return rank


def test_no_rank_outlives_its_node(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        node = group.start(QUICK, found=True, local_world_size=2)
        node.wait(Train, seconds=SECONDS)
        [rank] = ranks_of(node)
        os.kill(rank, signal.SIGSTOP)  # even one that can do nothing itself
        node.child.kill()
        deadline = time.monotonic() + 30
        while lives(rank):
            assert time.monotonic() < deadline, "a rank outlived its node"
            time.sleep(0.01)


def test_the_ranks_of_torchrun_are_one_node(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m")
        node = group.start(QUICK, found=True, rounds=2, launcher=launcher)
        rounds = [node.wait_round(number, SECONDS) for number in range(3)]
        assert [event.inner_steps for event in rounds] == [0, 4, 4]
        assert len({event.peer for event in rounds}) == 1
        assert node.child.process.wait(60) == 0, node.said()
        node.wait(Left)
