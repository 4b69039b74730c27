"""Members whose memory fails: they notice, fetch what differs, and are back, without a hand on them."""

from __future__ import annotations

import pytest

from p2p.protocol.messages import Record
from tests.p2p.member_swarm import MemberSwarm, Player, member_swarm

DIFFERS = "our state is not what most members hold"
CHUNK = 4096


def fell_behind(player: Player) -> list[object]:
    """Why it did."""
    return [fields["reason"] for event, fields in player.notes if event == "behind"]


async def next_rounds(swarm: MemberSwarm, player: Player) -> Record:
    await swarm.until(player, len(player.committed) + 3)
    return player.committed[-1].record


@pytest.mark.parametrize(("vector", "members"), [("theta_P", 4), ("momentum_P", 3), ("theta_P", 2)])
async def test_a_member_whose_memory_changed_repairs_the_chunks_that_differ(vector: str, members: int) -> None:
    """Of two members the coordinator is right, so there it may be the other one that repairs."""
    async with member_swarm(members) as swarm:
        sick = swarm.players[-1]
        await swarm.until(sick, 3)
        for chunk in (0, 2):
            getattr(sick.state, vector)[CHUNK * chunk + 7] += 1.0
        while not (repaired := [player for player in swarm.players if DIFFERS in fell_behind(player)]):
            await next_rounds(swarm, sick)
        (player,) = repaired
        assert player is sick or members == 2
        repair = player.fetched[1]
        assert repair is not None
        assert repair.chunks == 2, "others may commit meanwhile: that costs means, not chunks"
        record = await next_rounds(swarm, player)
        assert len(record.seats) == members
        assert all(seat.tokens for seat in record.seats)
        await swarm.until(swarm.players[0], len(swarm.players[0].committed) + 3)
        roots: dict[int, set[bytes]] = {}
        for outcome in (outcome for one in swarm.players for outcome in one.committed):
            roots.setdefault(outcome.record.round, set()).add(outcome.state.root)
        assert sum(len(different) > 1 for different in roots.values()) == 1, "the round that began from the bad memory"
