"""A newcomer enters over real links, however short the others' rounds are."""

from __future__ import annotations

import pytest

from tests.p2p import member_swarm as world
from tests.p2p.member_swarm import member_swarm


@pytest.mark.parametrize("seconds", [0.0, 0.02])
async def test_a_newcomer_enters_a_swarm_that_hardly_trains(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "TRAIN_SECONDS", seconds)
    async with member_swarm(3) as swarm:
        await swarm.until(swarm.players[0], 3)
        newcomer = await swarm.add()
        await swarm.until(newcomer, 3)
        swarm.check()
        last = newcomer.committed[-1].record
        assert last.weights[last.members.index(newcomer.member.me)] > 0
