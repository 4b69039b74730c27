"""What happens to real nodes: frozen and woken, restarted, cut off, their bootstrap lost, their donors killed."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.events import Behind, Dead, Round, Started, Synced
from swarm.simulate.network import Network, NoNamespaces
from tests.e2e.processes import QUICK, NodeProcess, processes

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(400)]
KILL_SECONDS, FREEZE_SECONDS = 3.0, 10.0
"""Within which the others must notice."""
STATE = QUICK.model_copy(update={"model": "10m", "inner_steps": 20, "batch_size": 1, "sequence_length": 32})
STATE_BYTES = 80e6
STATE_ROUND = 5
"""From then on donors do not keep all means any more, and a newcomer needs the whole state."""
DONOR_MBIT = 80.0
TRANSFER_SECONDS = 100.0


def noticed(nodes: list[NodeProcess], victim: NodeProcess, since: float, seconds: float) -> None:
    """All of them take the victim for dead within that time."""
    peer = victim.peer
    for node in nodes:
        dead = node.wait(Dead, lambda event: event.peer == peer, since=since)
        assert node.time_of(dead) - since <= seconds


def trains(node: NodeProcess, since: float) -> Round:
    """The first round after that which it has trained in."""
    return node.wait(Round, lambda event: event.tokens > 0, since=since)


def test_a_swarm_outlives_a_freeze_a_restart_and_the_loss_of_its_bootstrap(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        first, second, third = group.found(3)
        third.wait_round(1)

        frozen = time.time()
        third.child.freeze()
        noticed([first, second], third, frozen, FREEZE_SECONDS)
        ahead = first.wait(Round, lambda event: third.peer not in event.members, since=frozen)
        woken = time.time()
        third.child.thaw()
        third.wait(Behind, since=woken)
        third.wait(Synced, lambda event: event.round >= ahead.round, since=woken)
        trains(third, woken)

        killed = time.time()
        third.child.kill()
        noticed([first, second], third, killed, KILL_SECONDS)
        third.again()
        third.wait(Started, since=killed)
        trains(third, killed)

        lost = time.time()
        first.child.kill()
        noticed([second, third], first, lost, KILL_SECONDS)
        newcomer = group.start(group.run, bootstrap_peers=group.address(first, second), found=False)
        trains(newcomer, lost)
        for node in (second, third):
            trains(node, lost)
        group.same_digests()


def test_wrong_clocks_keep_nobody_out(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        run = QUICK.model_copy(update={"founders": 3})
        first = group.start(run, found=True)
        fast, slow = (
            group.start(run, bootstrap_peers=group.address(first), found=False, clock=seconds)
            for seconds in (300.0, -300.0)
        )
        assert len(slow.wait_round(2).members) == 3
        killed = time.time()
        fast.child.kill()
        noticed([first, slow], fast, killed, KILL_SECONDS)
        fast.again()
        trains(fast, killed)
        dead = [event.peer for node in (first, slow) for event in node.events if isinstance(event, Dead)]
        assert set(dead) == {fast.peer}
        group.same_digests()


@pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss, of iproute2, to see how much has come")
def test_a_newcomer_loses_a_donor_at_any_point_of_the_transfer(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        light = {"donor_mbit": DONOR_MBIT, "checkpoint_every": 0, "evaluate_every": 0}
        donors = group.found(3, STATE, **light)
        for part in (0.1, 0.5, 0.9):
            donors[-1].wait_round(STATE_ROUND)
            newcomer = group.start(group.run, bootstrap_peers=group.address(donors[0]), found=False, **light)
            newcomer.wait(Started)
            deadline = time.monotonic() + TRANSFER_SECONDS
            while bytes_received(newcomer) < part * STATE_BYTES:
                assert time.monotonic() < deadline, "the state does not come"
                time.sleep(0.005)
            newcomer.read()
            assert not any(isinstance(event, Synced) for event in newcomer.events), "the transfer was over too soon"
            victim = donors.pop()
            killed = time.time()
            victim.child.kill()
            assert newcomer.wait(Synced).donors >= 2
            newcomer.wait(Round, since=killed)
            donors.insert(1, newcomer)
        group.same_digests()


def bytes_received(node: NodeProcess) -> int:
    """On all open TCP connections of the process."""
    sockets = subprocess.run(["ss", "-tinpHO"], capture_output=True, text=True, check=True).stdout.splitlines()
    mine = [line for line in sockets if f"pid={node.child.pid}," in line]
    return sum(int(count) for line in mine for count in re.findall(r"bytes_received:(\d+)", line))


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    folder = tmp_path / "network"
    folder.mkdir()
    try:
        network = Network(folder)
    except NoNamespaces as reason:
        pytest.skip(str(reason))
    yield network
    network.close()


def test_a_pair_is_cut_then_the_swarm_is_halved_and_becomes_one_again(tmp_path: Path, network: Network) -> None:
    with processes(tmp_path / "nodes", network) as group:
        nodes = group.found(4)
        for node in nodes:
            node.wait_round(1)

        cut = time.time()
        network.cut(["n1"], ["n2"])
        for node in nodes:  # the second, as the first may have been under way
            first = node.wait(Round, since=cut)
            assert len(node.wait(Round, lambda event, done=first.round: event.round > done, since=cut).members) == 4
        assert not any(isinstance(event, Dead) for node in nodes for event in node.events)
        network.heal()

        halved = time.time()
        network.cut(["n0", "n1"], ["n2", "n3"])
        for side in (nodes[:2], nodes[2:]):
            peers = {node.peer for node in side}
            for node in side:
                node.wait(Round, lambda event, peers=peers: {*event.members} == peers, since=halved)
        network.heal()
        healed = time.time()
        last = [node.wait(Round, lambda event: len(event.members) == 4, since=healed) for node in nodes]
        newest = max(event.round for event in last) + 1
        ends = [node.wait(Round, lambda event: event.round >= newest, since=healed) for node in nodes]
        assert len({(event.round, event.record, event.theta_digest, event.momentum_digest) for event in ends}) == 1
