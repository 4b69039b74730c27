"""A node's life as its owner sees it: it trains, reports, leaves when told, and fails with a reason."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path

import pytest

from swarm.events import Evaluated, Left, Round, Synced, Train
from tests.e2e.processes import QUICK, processes

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]
LEAVE_SECONDS = 10.0


def test_a_lone_node_trains_evaluates_and_ends_after_its_last_round(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        node = group.start(QUICK, rounds=3)
        assert node.child.process.wait(90) == 0, node.said()
        node.read()
        rounds = [event for event in node.events if isinstance(event, Round)]
        losses = {event.round: event.held_out_loss for event in node.events if isinstance(event, Evaluated)}
        assert [event.round for event in rounds] == [0, 1, 2, 3]
        assert [event.inner_steps for event in rounds] == [0, 4, 4, 4]
        assert [event.tokens for event in rounds] == [0] + 3 * [4 * 2 * 64]
        assert len({event.theta_digest for event in rounds}) == 4
        assert [event.agreement is not None and event.agreement > 0.99 for event in rounds] == [False, True, True, True]
        assert [event.mean_cosine is not None for event in rounds] == [False, False, True, True]
        assert all(0 < (event.codec_error or 0) < 0.03 for event in rounds[1:])
        assert [event.outer_gain is not None for event in rounds] == [False, False, True, True]
        assert {-1, 3} <= set(losses) <= {-1, 1, 2, 3}, "first and last, and between them what spare time allows"
        assert losses[-1] == pytest.approx(math.log(256), abs=0.3)
        assert losses[3] < losses[-1]
        assert isinstance(node.events[-1], Left)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_told_to_stop_leaves_in_time(tmp_path: Path, number: signal.Signals) -> None:
    with processes(tmp_path) as group:
        node = group.start(QUICK)
        node.wait(Train)
        began = time.monotonic()
        node.child.process.send_signal(number)
        assert node.child.process.wait(30) == 0
        assert time.monotonic() - began < LEAVE_SECONDS
        node.wait(Left)


def test_a_newcomer_joins_a_running_swarm_and_a_member_leaves_it(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        first, second = group.found(2)
        address = group.address()
        second.wait_round(2)
        newcomer = group.start(group.run, bootstrap_peers=address, found=False)
        synced = newcomer.wait(Synced)
        assert synced.donors >= 1
        assert synced.round >= 1
        joined = newcomer.wait(Round, lambda event: event.tokens > 0)
        assert joined.contributors == 3
        first.child.terminate()
        assert first.child.process.wait(30) == 0
        newcomer.wait(Round, lambda event: len(event.members) == 2)
        group.same_digests()
