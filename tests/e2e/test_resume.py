"""A run outlives its nodes: killed or stopped, all at once, it goes on from the newest good checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarm.events import Checkpoint, CheckpointRefused, Resumed, Round, Started, Synced
from tests.e2e.processes import QUICK, NodeProcess, Processes, processes

PATIENCE = 180.0
"""Seconds: two generations of nodes start on a machine that may be busy."""
pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(600)]


def again(group: Processes, node: NodeProcess, life: int, **settings: Any) -> NodeProcess:
    """Start a node once more, in its own directory and with its own key."""
    directory = node.child.output.parent
    settings = {"name": directory.name, "events_file": directory / f"events-{life}.jsonl"} | settings
    second = NodeProcess(directory, group.run, **settings)
    group.nodes.append(second)
    return second


def saved(node: NodeProcess, round: int) -> Checkpoint:
    return node.wait(Checkpoint, lambda event: event.round >= round, PATIENCE)


def test_a_killed_node_goes_on_with_the_losses_of_one_that_never_stopped(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        group.run = QUICK
        steady = group.start(QUICK, rounds=5, evaluate_every=0)
        assert steady.child.process.wait(120) == 0, steady.said()
        node = group.start(QUICK, checkpoint_every=1, evaluate_every=0)
        saved(node, 2)
        node.child.kill()
        node.child.process.wait()
        second = again(group, node, 2, rounds=5, checkpoint_every=1, evaluate_every=0)
        resumed = second.wait(Resumed)
        assert resumed.round >= 2
        assert resumed.inner_steps == 4 * resumed.round
        assert second.child.process.wait(120) == 0, second.said()
        wanted, found = steady.rounds(), second.rounds()
        assert min(found) == resumed.round + 1
        assert max(found) == 5 or resumed.round == 5
        for number, event in found.items():
            assert event.loss == pytest.approx(wanted[number].loss, abs=1e-6)
            assert event.theta_digest == wanted[number].theta_digest


def test_all_nodes_stop_and_others_go_on_from_the_newest_checkpoint_that_is_whole(tmp_path: Path) -> None:
    run = QUICK.model_copy(update={"founders": 3})
    with processes(tmp_path) as group:
        group.run = run
        first = group.start(run, found=True, checkpoint_every=2)
        others = [group.start(run, bootstrap_peers=group.address(), found=False, checkpoint_every=2) for _ in range(2)]
        for node in (first, *others):
            saved(node, 4)
        for node in (first, *others):
            node.child.kill()
            node.child.process.wait()
        newest = max((tmp_path / "n0" / "checkpoints").iterdir())
        theta = newest / "theta.safetensors"
        data = bytearray(theta.read_bytes())
        data[-5] ^= 1
        theta.write_bytes(data)

        second = again(group, others[0], 2, found=False, gather_seconds=5)
        address = second.wait(Started, seconds=PATIENCE).bootstrap[:1]
        back = again(group, first, 2, found=False, bootstrap_peers=address)
        fresh = NodeProcess(tmp_path / "fresh", run, name="fresh", found=False, bootstrap_peers=address)
        group.nodes.append(fresh)
        assert newest.name in back.wait(CheckpointRefused, seconds=PATIENCE).path
        assert back.wait(Resumed).round < int(newest.name.split("-")[1])
        best = second.wait(Resumed).round
        committed = fresh.wait(Round, lambda event: event.tokens > 0, PATIENCE)
        assert committed.round > best
        assert fresh.wait(Synced).round >= best
        for node in (back, second):
            assert node.wait_round(committed.round, PATIENCE).record
        lives = [back, second, fresh]
        assert min(min(node.rounds()) for node in lives) == best + 1, "not a round is done twice, none left out"
        group.nodes[:3] = []  # what the first lives did after their last checkpoint is done anew, and otherwise
        group.same_digests()


def test_killed_nodes_that_average_a_fragment_a_round_go_on_with_the_next_one(tmp_path: Path) -> None:
    run = QUICK.model_copy(update={"fragments": 4, "overlap_steps": 1, "min_peers": 2})
    with processes(tmp_path) as group:
        first, other = group.found(2, run, checkpoint_every=1, evaluate_every=0)
        for node in (first, other):
            saved(node, 5)
        for node in (first, other):
            node.child.kill()
            node.child.process.wait()
        back = again(group, other, 2, found=False, gather_seconds=5, evaluate_every=0)
        address = back.wait(Started, seconds=PATIENCE).bootstrap[:1]
        lives = [back, again(group, first, 2, found=False, bootstrap_peers=address, evaluate_every=0)]
        best = max(node.wait(Resumed, seconds=PATIENCE).round for node in lives)
        for node in lives:
            node.wait_round(best + 5, PATIENCE)
            rounds = node.rounds()
            assert min(rounds) == best + 1, "not a round is done twice, none left out"
            assert all((event.fragment, event.fragments) == (number % 4, 4) for number, event in rounds.items())
            assert {event.contributors for event in rounds.values()} == {2}
        group.nodes[:2] = []  # what the first lives did after their last checkpoint is done anew, and otherwise
        group.same_digests()


def test_a_node_that_is_told_to_stop_saves_where_it_is(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        group.run = QUICK
        node = group.start(QUICK, checkpoint_every=1000)
        node.wait_round(3)
        node.child.terminate()
        assert node.child.process.wait(30) == 0
        checkpoint = node.wait(Checkpoint)
        assert checkpoint.round == max(node.rounds())
        second = again(group, node, 2, checkpoint_every=1000)
        assert second.wait(Round).round == checkpoint.round + 1
