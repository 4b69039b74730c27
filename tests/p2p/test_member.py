"""Members over real links: found, join, leave, die, look on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

import p2p.protocol.need
import tests.p2p.member_swarm
from p2p.channel.hello import Hello, RunIdentity
from p2p.channel.mesh import Mesh
from p2p.identity import Identity
from p2p.member import Stranded
from p2p.outcome import Missed
from p2p.protocol.holdings import EMPTY
from p2p.protocol.message import Message
from p2p.protocol.messages import Commit, Status
from tests.p2p.channel.nodes import Node
from tests.p2p.member_swarm import DEADLINE_SECONDS, FINGERPRINT, member_swarm


async def test_founders_commit_rounds_with_equal_states() -> None:
    async with member_swarm(3) as swarm:
        for player in swarm.players:
            await swarm.until(player, 4)
        swarm.check()
        last = swarm.players[0].committed[-1].record
        assert last.steps
        assert set(last.members) == {player.member.me for player in swarm.players}
        assert len(swarm.players[0].committed[-1].signed.signatures) == 3


async def test_a_newcomer_fetches_the_state_and_takes_part() -> None:
    async with member_swarm(3) as swarm:
        await swarm.until(swarm.players[0], 3)
        newcomer = await swarm.add()
        await swarm.until(newcomer, 3)
        swarm.check()
        weights = [dict(zip(o.record.members, o.record.weights, strict=True)) for o in newcomer.committed]
        mine = [found[newcomer.member.me] for found in weights]
        assert mine[0] == 0
        assert all(weight > 0 for weight in mine[1:])


async def test_a_run_whose_last_member_stopped_is_founded_anew_over_its_old_records() -> None:
    async with member_swarm(1) as swarm:
        before = swarm.players[0]
        await swarm.until(before, 3)
        await swarm.stop(before)
        after = await swarm.add(may_found=True, chain=before.chain)
        await swarm.until(after, 2)
        assert [outcome.record.round for outcome in after.committed[:2]] == [0, 1]


async def test_nodes_that_all_found_the_run_at_once_end_in_one_lineage() -> None:
    """Each alone at first: what some have committed by themselves is dropped for the heaviest lineage."""
    async with member_swarm(1) as swarm:
        for _ in range(3):
            await swarm.add(may_found=True)
        peers = {player.member.me for player in swarm.players}
        for player in swarm.players:
            await swarm.until(player, 2)
            while set(player.member.head.view) != peers or not player.committed[-1].record.steps:
                await swarm.until(player, len(player.committed) + 1)
        for player in swarm.players:
            await swarm.until(player, len(player.committed) + 2)
        common = min(player.member.head.height for player in swarm.players)
        assert len({player.chain.hash_at(common) for player in swarm.players}) == 1


async def test_when_all_have_stopped_the_run_goes_on_from_the_newest_checkpoint() -> None:
    async with member_swarm(3) as swarm:
        old = swarm.players[0]
        await swarm.until(old, 3)
        early = swarm.save(old)
        other = swarm.players[1]
        await swarm.until(other, 5)
        late = swarm.save(other)
        for player in tuple(swarm.players):
            await swarm.stop(player)
        behind = await swarm.add(may_found=True, saved=early)
        assert {late.identity.peer_id, early.identity.peer_id} - behind.member.absent() == {early.identity.peer_id}
        ahead = await swarm.add(saved=late)
        newcomer = await swarm.add()
        for player in (behind, ahead, newcomer):
            await swarm.until(player, 2)
        swarm.check()
        assert ahead.committed[0].record.round == late.round + 1
        assert newcomer.committed[0].record.round > late.round
        for player in (behind, newcomer):
            assert player.chain.hash_at(late.round) == late.chain.hash_at(late.round)
        assert ahead.member.absent() == set(), "somebody holds state, so nobody is waited for"


async def test_a_node_that_cannot_compute_the_first_parameters_gets_them_from_a_founder() -> None:
    async with member_swarm(0) as swarm:
        swarm.rules = replace(swarm.rules, founders=2)
        empty = await swarm.add(may_found=True, round=EMPTY)
        founder = await swarm.add(may_found=True)
        await swarm.until(empty, 3)
        await swarm.until(founder, 3)
        swarm.check()
        assert [outcome.record.round for outcome in empty.committed[:3]] == [0, 1, 2]


async def test_a_member_that_leaves_is_gone_for_the_others_at_once() -> None:
    async with member_swarm(4) as swarm:
        leaver = swarm.players[0]
        await swarm.until(leaver, 3)
        await leaver.member.leave()
        await swarm.stop(leaver)
        rest = swarm.players[0]
        await swarm.until(rest, len(rest.committed) + 3)
        swarm.check()
        assert leaver.member.me not in rest.committed[-1].record.members


async def test_a_member_that_dies_without_a_word_is_noticed_by_its_closed_links() -> None:
    async with member_swarm(4) as swarm:
        victim = swarm.players[1]
        await swarm.until(victim, 3)
        began = asyncio.get_running_loop().time()
        await swarm.stop(victim)
        rest = swarm.players[0]
        await swarm.until(rest, len(rest.committed) + 3)
        assert asyncio.get_running_loop().time() - began < 15
        swarm.check()


async def test_somebody_may_look_on_without_taking_part() -> None:
    seen: asyncio.Queue[Message] = asyncio.Queue()

    class Onlooker:
        def open_payload(self, peer: str, message: Message, size: int) -> None:
            return None

        def on_message(self, peer: str, message: Message, payload: object) -> None:
            seen.put_nowait(message)

        def on_link_up(self, peer: str, hello: Hello) -> None: ...

        def on_link_down(self, peer: str, reason: str) -> None: ...

        def on_unreachable(self, peer: str, reason: str) -> None: ...

        def on_refused(self, peer: str, reason: str) -> None: ...

    async with member_swarm(2) as swarm:
        player = swarm.players[0]
        await swarm.until(player, 2)
        mesh = Mesh(Identity.generate(), RunIdentity(FINGERPRINT), Onlooker(), role="observer")
        mesh.dial(player.contact)
        async with asyncio.timeout(DEADLINE_SECONDS):
            status, commit = await seen.get(), await seen.get()
        assert isinstance(status, Status)
        assert isinstance(commit, Commit)
        assert commit.signed.record.round == status.height
        await mesh.close()
        await swarm.until(player, len(player.committed) + 2)
        assert mesh.peer_id not in player.committed[-1].record.members


async def test_members_do_not_wait_for_a_newer_state_whose_only_holder_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether he lied or died: everybody has left his seat to fetch what nobody has any more."""
    monkeypatch.setattr(tests.p2p.member_swarm, "TRAIN_SECONDS", 1.0)  # who is a round ahead is no reason to leave
    async with member_swarm(3) as swarm:
        await swarm.until(swarm.players[0], 1)
        claimant = Node(run=RunIdentity(FINGERPRINT))
        for player in swarm.players:
            claimant.mesh.dial(player.contact)
        await claimant.until(lambda: len(claimant.mesh.peers()) == 3)
        status = swarm.players[0].member._core.board.statuses[swarm.players[0].member.me]
        ahead = status.model_copy(update={"height": 1000, "tokens_total": 1 << 40, "head": b"h" * 32, "sequence": 1})
        for player in swarm.players:
            claimant.mesh.send(player.member.me, ahead.model_copy(update={"state_root": b"s" * 32}))
        async with asyncio.timeout(DEADLINE_SECONDS):
            # nothing tells of all players at once
            while not all(any(isinstance(o, Missed) for o in p.outcomes) for p in swarm.players):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await claimant.mesh.close()
        for player in swarm.players:
            await swarm.until(player, len(player.committed) + 2)
        newcomer = await swarm.add()
        await swarm.until(newcomer, 1)  # they give their state again
        swarm.check()


async def test_a_member_whose_state_is_half_replaced_does_not_wait_for_ever_for_donors_that_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(p2p.protocol.need, "STRANDED_SECONDS", 0.5)
    async with member_swarm(1) as swarm:
        (player,) = swarm.players
        await swarm.until(player, 1)
        assert player.playing is not None
        player.playing.cancel()
        round, chunk = player.state.read(0)
        player.state.write(0, round + 5, chunk)
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(Stranded, match="the donors of a fetch are gone"):
                await player.member.sync(may_found=True)
