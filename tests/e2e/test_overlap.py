"""Nodes that train ahead while a round is reduced stay equal to the bit and commit every sample once, whoever dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.audit import prove
from swarm.events import Reducing, Round
from swarm.state_dir import RECORDS
from tests.e2e.processes import QUICK, processes

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(240)]
RUN = QUICK.model_copy(update={"model": "10m", "batch_size": 1, "sequence_length": 32, "overlap_steps": 2})
"""A model whose reduce takes long enough for steps ahead, and to die in the middle of it."""


def test_steps_ahead_count_once_and_a_death_beside_them_leaves_all_others_equal(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        nodes = group.found(3, RUN, evaluate_every=0, checkpoint_every=0)
        for node in nodes:
            node.wait(Round, lambda event: event.ahead_steps > 0)
        round = max(max(node.rounds()) for node in nodes)
        nodes[2].wait(Reducing, lambda event: event.round > round)
        nodes[2].child.kill()
        for node in nodes[:2]:
            alone = node.wait(Round, lambda event: len(event.members) == 2).round
            node.wait(Round, lambda event, alone=alone: event.round > alone + 1 and event.ahead_steps > 0)
        group.same_digests()
        steps = {event.inner_steps for node in nodes for event in node.rounds().values() if event.round > 0}
        assert steps == {RUN.inner_steps}
        tokens = {event.tokens for node in nodes for event in node.rounds().values() if event.round > 0}
        assert tokens == {RUN.inner_steps * RUN.batch_size * RUN.sequence_length}
    proof = prove({name: tmp_path / name / RECORDS for name in ("n0", "n1")})
    assert proof.violation is None, proof.violation
