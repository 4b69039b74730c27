"""Real nodes begin with a Hugging Face Llama: one has its folder, the other its digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.checkpoint.source import model_layout
from swarm.events import Round, Started, Synced
from swarm.export.write import write_model
from swarm.initial import initial_digest
from swarm.model.sizes import SIZES
from tests.e2e.processes import QUICK, NodeProcess, processes
from tests.swarm.export.models import theta_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
PATIENCE = 180.0


def test_a_node_that_has_the_digest_only_gets_the_parameters_from_the_founder(tmp_path: Path) -> None:
    demo = SIZES["demo"]
    (tmp_path / "llama").mkdir()
    write_model(tmp_path / "llama", theta_of(demo), model_layout(demo), demo, context=64)
    run = QUICK.model_copy(update={"founders": 2, "initial": str(tmp_path / "llama")})
    known = run.model_copy(update={"initial": initial_digest(run)})
    with processes(tmp_path) as group:
        founder = group.start(run, found=True, rounds=3)
        address = founder.wait(Started, seconds=PATIENCE).bootstrap[:1]
        other = group.start(known, bootstrap_peers=address, found=False, rounds=3)
        synced = other.wait(Synced, seconds=PATIENCE)
        assert (synced.round, synced.donors) == (-1, 1)
        for node in (founder, other):
            node.wait(Round, lambda event: event.round == 3, PATIENCE)
        group.same_digests()
        lone = NodeProcess(tmp_path / "lone", known, name="lone", found=True)
        assert lone.child.process.wait(PATIENCE) == 1
        assert "give the model's folder instead" in lone.said()
