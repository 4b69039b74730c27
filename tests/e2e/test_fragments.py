"""Nodes that average one fragment of the model a round stay equal to the bit, whoever comes, goes or dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.codec import get_codec
from swarm.audit import prove
from swarm.checkpoint.source import model_layout
from swarm.events import Reducing, Round, Synced
from swarm.model.sizes import model_config
from swarm.state_dir import RECORDS
from tests.e2e.processes import QUICK, processes

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(300)]
FRAGMENTS = 4
RUN = QUICK.model_copy(update={"fragments": FRAGMENTS, "overlap_steps": 1, "codec": "int2"})
"""What is hardest: members owe each fragment what its last round has lost, and train ahead."""


def test_members_and_newcomers_are_equal_while_each_round_averages_another_fragment(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        nodes = group.found(3, RUN, evaluate_every=1, checkpoint_every=0)
        for node in nodes:
            node.wait_round(4)
        newcomer = group.start(group.run, bootstrap_peers=group.address(), found=False, checkpoint_every=0)
        joined = newcomer.wait(Synced).round
        newcomer.wait(Round, lambda event: event.round > joined and event.tokens > 0)
        nodes[2].child.process.terminate()
        assert nodes[2].child.process.wait(30) == 0
        left = max(newcomer.rounds())
        newcomer.wait(Reducing, lambda event: event.round > left + 1)
        nodes[1].child.kill()
        newcomer.wait(Round, lambda event: event.round > left + 2 and len(event.members) == 2)
        nodes[0].wait_round(max(newcomer.rounds()))
        group.same_digests()
        for node in (nodes[0], newcomer):
            assert all(event.fragment == event.round % FRAGMENTS for event in node.rounds().values())
            assert {event.fragments for event in node.rounds().values()} == {FRAGMENTS}
        sent = [event.bytes_sent for event in nodes[0].rounds().values() if event.contributors == 3]
    proof = prove({name: tmp_path / name / RECORDS for name in ("n0", "n3")})
    assert proof.violation is None, proof.violation
    values = model_layout(model_config(RUN.model)).count / FRAGMENTS
    payload = 2 * 2 / 3 * values * get_codec(RUN.codec).reduce_bits_per_value / 8
    assert 0.9 * payload < min(sent) < 1.3 * payload
