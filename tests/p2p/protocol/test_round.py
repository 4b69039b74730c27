"""The committed round in virtual time: whoever dies at whatever message, the survivors commit the same record."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from p2p.protocol.board import SUCCESSORS
from p2p.protocol.effects import Note, Send
from p2p.protocol.liveness import tag
from p2p.protocol.message import Message
from p2p.protocol.messages import Plan, Prepare, Ready, Status
from p2p.protocol.model import BadMessage
from p2p.protocol.plan import Head
from tests.sim.virtual_swarm import RULES, Node, VirtualSwarm

ROUND_MESSAGES = 110
"""More than the messages of one round of four members."""


def founded(nodes: int, seed: int = 0, train_seconds: float = 1.0) -> VirtualSwarm:
    """A swarm that has founded its run with all nodes and committed round 1; from then on any number may go on."""
    swarm = VirtualSwarm(nodes, seed, replace(RULES, min_peers=nodes), train_seconds)
    swarm.run_rounds(1)
    for node in swarm.nodes:
        node.core.board.rules = replace(RULES, min_peers=1)
    return swarm


def strike_at(swarm: VirtualSwarm, number: int, strike: str, victims: tuple[int, ...]) -> float:
    """Kill or freeze the victims when message `number` from now is sent; seconds until the survivors commit."""
    start = swarm.messages_sent
    struck: list[float] = []

    def on_send(count: int, sender: Node, to: str, message: Message) -> None:
        if count - start == number:
            for victim in victims:
                getattr(swarm, strike)(swarm.nodes[victim])
            struck.append(swarm.now)

    swarm.on_send = on_send
    swarm.run(lambda: bool(struck), limit=60)
    height = max(len(node.history) for node in swarm.live())
    swarm.run_rounds(height, limit=60)
    took = swarm.now - struck[0]
    swarm.run_rounds(height + 1, limit=60)
    swarm.check()
    return took


def test_founders_form_one_view_and_commit_rounds() -> None:
    swarm = VirtualSwarm(5, rules=replace(RULES, min_peers=5))
    swarm.run_rounds(4)
    swarm.check()
    history = swarm.nodes[0].history
    assert [record.weights for record in history[:2]] == [(0,) * 5, (80,) * 5]
    assert len({node.root for node in swarm.nodes}) == 1


def test_a_run_waits_for_min_peers() -> None:
    swarm = VirtualSwarm(2, rules=replace(RULES, min_peers=3))
    swarm.run(lambda: swarm.now > 30, limit=60)
    assert all(node.core.board.head.height == -1 for node in swarm.nodes)
    swarm.add()
    swarm.run_rounds(1)
    swarm.check()


def test_founders_come_together_once_and_may_be_fewer_later() -> None:
    swarm = VirtualSwarm(2, rules=replace(RULES, founders=3))
    swarm.run(lambda: swarm.now > 30, limit=60)
    assert all(node.core.board.head.height == -1 for node in swarm.nodes)
    swarm.add()
    swarm.run_rounds(2)
    swarm.kill(swarm.nodes[1])
    swarm.run_rounds(4)
    swarm.check()


def test_a_newcomer_has_weight_zero_in_its_first_round_and_full_weight_in_the_next() -> None:
    swarm = founded(3)
    newcomer = swarm.add(founding=False)
    swarm.run(lambda: len(newcomer.history) > 4, limit=60)
    swarm.check()
    weights = [seat.tokens for record in newcomer.history for seat in record.seats if seat.peer == newcomer.peer]
    assert weights[:3] == [0, 80, 80]


def test_a_member_that_leaves_is_not_waited_for() -> None:
    swarm = founded(4)
    height = swarm.nodes[1].core.board.head.height
    swarm.leave(swarm.nodes[0])
    swarm.run_rounds(height + 1, limit=10)
    swarm.check()
    assert swarm.nodes[0].peer not in swarm.nodes[1].history[-1].members


@pytest.mark.parametrize("victim", range(3))
def test_three_members_survive_a_kill_at_every_message_of_a_round(victim: int) -> None:
    for number in range(1, ROUND_MESSAGES):
        assert strike_at(founded(3), number, "kill", (victim,)) < 15


@pytest.mark.parametrize("victim", range(4))
def test_four_members_survive_a_kill_at_any_message(victim: int) -> None:
    for number in range(1 + victim, ROUND_MESSAGES, 4):
        assert strike_at(founded(4, seed=victim), number, "kill", (victim,)) < 15


@pytest.mark.parametrize("victims", list(itertools.combinations(range(4), 2)))
def test_two_of_four_members_die_at_once(victims: tuple[int, int]) -> None:
    for number in range(1 + sum(victims), ROUND_MESSAGES, 9):
        assert strike_at(founded(4, seed=sum(victims)), number, "kill", victims) < 15


@pytest.mark.parametrize("victim", range(3))
def test_a_frozen_member_is_dropped_after_its_silence(victim: int) -> None:
    for number in range(1 + victim, ROUND_MESSAGES, 11):
        assert strike_at(founded(3), number, "freeze", (victim,)) < 15


def test_a_newcomer_that_never_met_the_dead_does_not_keep_them_alive() -> None:
    swarm = founded(3)
    height = swarm.nodes[0].core.board.head.height
    swarm.kill(swarm.nodes[2])
    newcomer = swarm.add(founding=False)
    began = swarm.now
    swarm.run(lambda: newcomer.core.board.head.height > height + 1, limit=60)
    assert swarm.now - began < 15
    swarm.check()


def corrupted(nodes: int, victims: tuple[int, ...], min_peers: int = 1) -> VirtualSwarm:
    """Memory of the victims fails in training: with the next commit their states differ, each in its own way."""
    swarm = founded(nodes)
    for node in swarm.nodes:
        node.core.board.rules = replace(RULES, min_peers=min_peers)
    for victim in victims:
        swarm.nodes[victim].root = bytes([victim + 1]) * 32
    return swarm


def resyncs(swarm: VirtualSwarm) -> list[int]:
    """Who fell behind because its state differs."""
    reason = "our state is not what most members hold"
    return [
        index
        for index, node in enumerate(swarm.nodes)
        for note in node.notes
        if note.event == "behind" and note.fields["reason"] == reason
    ]


@pytest.mark.parametrize("victim", range(3))
def test_a_member_whose_state_differs_fetches_it_and_nobody_waits_for_a_deadline(victim: int) -> None:
    swarm = corrupted(3, (victim,))
    began = swarm.now
    swarm.run_rounds(6)
    assert resyncs(swarm) == [victim]
    assert swarm.now - began < 5 * 1.2 + 6
    assert len({node.root for node in swarm.nodes}) == 1
    assert all(len(record.seats) == 3 for record in swarm.nodes[0].history[-2:])


@pytest.mark.parametrize("victim", range(2))
def test_of_two_members_with_different_states_the_coordinator_is_right(victim: int) -> None:
    """Though its memory may be the one that failed: else a swarm of two that needs both would stand still."""
    swarm = corrupted(2, (victim,), min_peers=2)
    coordinator = swarm.nodes[0].core.board.coordinator(swarm.now)
    swarm.run_rounds(6)
    assert [swarm.nodes[index].peer for index in resyncs(swarm)] == [
        node.peer for node in swarm.nodes if node.peer != coordinator
    ]
    assert len({node.root for node in swarm.nodes}) == 1


def test_a_woken_member_catches_up() -> None:
    swarm = founded(3)
    sleeper = swarm.nodes[2]
    swarm.freeze(sleeper)
    height = swarm.nodes[0].core.board.head.height
    swarm.run_rounds(height + 2)
    sleeper.frozen = False
    swarm._tick(sleeper)
    swarm.run(lambda: sleeper.core.board.head.height == swarm.nodes[0].core.board.head.height > height + 3, limit=60)
    swarm.check()
    assert sleeper.root == swarm.nodes[0].root


def test_a_dead_peer_is_forgotten_after_a_while() -> None:
    swarm = founded(3)
    victim = swarm.nodes[2]
    swarm.kill(victim)
    swarm.run(lambda: swarm.now > 80, limit=120)
    survivor = swarm.nodes[0].core
    assert survivor.forget_gone(swarm.now) == (victim.peer,)
    assert survivor.forget_gone(swarm.now) == ()
    assert victim.peer not in survivor.board.statuses
    swarm.run_rounds(survivor.board.head.height + 1)
    swarm.check()


@pytest.mark.parametrize("seed", range(4))
def test_halves_of_a_partition_go_on_and_the_heavier_one_wins_when_they_meet(seed: int) -> None:
    swarm = founded(5, seed)
    many, few = swarm.nodes[:3], swarm.nodes[3:]
    swarm.cut(many, few)
    start = many[0].core.board.head.height
    swarm.run(lambda: all(node.core.board.head.height >= start + 4 for node in swarm.nodes), limit=60)
    assert len(many[0].history[-1].members) == 3
    assert len(few[0].history[-1].members) == 2
    heavier = many[0].history[start + 2]
    swarm.heal()

    def united() -> bool:
        heads = {node.core.board.head.hash for node in swarm.nodes}
        return len(heads) == 1 and len(few[0].history[-1].members) == 5

    swarm.run(united, limit=60)
    swarm.check()
    assert few[0].history[start + 2] == heavier


def test_a_node_opens_no_round_while_somebody_is_ahead() -> None:
    """It would commit, alone, what has been committed already."""
    head = Head(RULES.fingerprint, founded(3).nodes[0].history[-1])
    *_, late, ahead = VirtualSwarm(5).nodes  # newcomers, who never met the members of the view
    late.core.on_synced(head, b"r" * 32, 1.0)
    further = ahead.core.board.statuses[ahead.peer].model_copy(
        update={
            "sequence": 9,
            "height": head.height + 1,
            "head": b"n" * 32,
            "phase": "training",
            "tokens_total": 999,
            "hears": (),
        }
    )
    late.core.on_message(ahead.peer, further, 1.1)
    effects = late.core.on_ready(0, (), 0, 1.2)
    assert not [e for e in effects if isinstance(e, Send) and isinstance(e.message, Prepare | Plan)]
    late.core.on_message(ahead.peer, further.model_copy(update={"sequence": 10, "phase": "leaving"}), 1.3)
    effects = late.core.on_tick(1.4)
    assert [e for e in effects if isinstance(e, Send) and isinstance(e.message, Prepare | Plan)]


def test_a_report_that_no_honest_member_sends_is_refused_when_it_comes() -> None:
    swarm = founded(3)
    victim, liar = swarm.nodes[0], swarm.nodes[1]
    status = victim.core.board.statuses[liar.peer]
    claim = Ready(round=victim.core.board.round, tokens=10, used=((0, 1 << 40),))
    false = status.model_copy(update={"sequence": 1 << 40, "head": victim.core.board.head.hash, "ready": claim})
    with pytest.raises(BadMessage, match="claims samples that were not assigned"):
        victim.core.on_message(liar.peer, false, swarm.now)


def test_who_stood_still_holds_nobody_for_dead_whatever_comes_first_when_it_wakes() -> None:
    swarm = founded(3)
    node = swarm.nodes[0]
    effects = node.core.on_link_down(swarm.nodes[1].peer, swarm.now + 30.0)
    assert [e.fields["seconds"] >= 29.0 for e in effects if isinstance(e, Note) and e.event == "stood_still"] == [True]
    assert all(node.core.board.alive(other.peer, swarm.now + 30.0) for other in swarm.nodes)


def test_a_coordinator_that_stood_still_does_not_go_on_without_those_whose_answers_it_has_not_read() -> None:
    swarm = founded(3)
    core = swarm.nodes[0].core
    core.coordinator.first = False
    swarm.run(lambda: core.coordinator.ballot is not None, limit=60)
    woken = core.on_link_down("somebody", swarm.now + 30.0)
    assert core.coordinator.ballot is None
    assert not [e for e in woken if isinstance(e, Note) and e.event == "excluded"]


def test_a_member_follows_no_coordinator_that_knows_less_than_it_does() -> None:
    swarm = founded(3)
    coordinator, member, further = swarm.nodes
    core, head = member.core, member.core.board.head
    ask = Prepare(ballot=head.ballot(1, 0))
    status = core.board.statuses[further.peer]
    ahead = status.model_copy(
        update={"sequence": status.sequence + 1, "height": head.height + 1, "head": b"n" * 32, "tokens_total": 999}
    )
    core.on_message(further.peer, ahead, swarm.now)
    refused = [e for e in core.on_message(coordinator.peer, ask, swarm.now) if isinstance(e, Note)]
    assert [note.fields["reason"] for note in refused] == ["somebody is further than we are"]
    assert core.participant.promised is None


def test_a_death_is_told_at_once_to_those_who_would_drive_the_round_and_to_nobody_else() -> None:
    """Whoever sees its link end tells at most the coordinator and its successors; all learn it with the heartbeat."""
    swarm = founded(12)
    victim, told = swarm.nodes[11], dict[str, set[str]]()
    swarm.kill(victim)
    survivors = swarm.live()
    heard = {node.peer: victim.peer in node.core.board.liveness.living(swarm.now) for node in survivors}
    assert all(heard.values())

    def on_send(count: int, sender: Node, to: str, message: Message) -> None:
        if isinstance(message, Status) and tag(victim.peer) not in message.hears:
            told.setdefault(sender.peer, set()).add(to)

    swarm.on_send = on_send
    swarm.run(lambda: len(told) == len(survivors), limit=10)
    first = next(iter(told.values()))
    assert len(first) <= 1 + SUCCESSORS
    swarm.run(lambda: all(victim.peer not in n.core.board.liveness.living(swarm.now) for n in survivors), limit=10)
    swarm.run_rounds(survivors[0].core.board.head.height + 1, limit=60)
    swarm.check()
