"""A real node answers an observer, and the observer does not disturb it."""

from __future__ import annotations

from pathlib import Path

import pytest
import uvloop

from p2p.observe import observe
from swarm.events import PeerUp, Started
from swarm.status import describe
from tests.e2e.processes import HOST, QUICK, processes

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_a_node_tells_an_observer_how_it_is(tmp_path: Path) -> None:
    with processes(tmp_path) as group:
        node = group.start(QUICK, found=True)
        started = node.wait(Started)
        reached = node.wait_round(1).round
        facts = describe(uvloop.run(observe(HOST, started.port, 60.0)))
        assert facts["peer"] == started.peer
        assert (facts["run"], facts["model"]) == (QUICK.name, QUICK.model)
        assert facts["round"] >= reached
        assert [member["peer"] for member in facts["members"]] == facts["next_view"] == [started.peer]
        after = node.wait_round(facts["round"] + 2)
        assert after.members == (started.peer,)
        assert not [event for event in node.events if isinstance(event, PeerUp)]
