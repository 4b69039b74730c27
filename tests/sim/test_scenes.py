"""What nodes do when something happens to one of them: one scene each, in virtual time, over all of the protocol."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.sim.scene import QUICK, Scene, members


def test_founders_form_one_view_and_commit_rounds() -> None:
    scene = Scene.of(5, rounds=4)
    first, second, *_ = scene.history(0)
    assert [first.weights, second.weights] == [(0,) * 5, (80,) * 5]
    assert len({node.store.root() for node in scene.live()}) == 1


def test_a_run_waits_for_its_founders_and_they_may_be_fewer_later() -> None:
    scene = Scene(QUICK, found=False)
    for _ in range(2):
        scene.world.join().founds = True
    scene.rest(30)
    assert scene.height == -1
    scene.world.join()
    scene.run_rounds(2)
    scene.kill(1)
    scene.run_rounds(4)


def test_a_run_of_too_few_waits_and_goes_on_when_there_are_enough() -> None:
    scene = Scene.of(3, min_peers=3)
    scene.kill(2)
    before = scene.height
    scene.rest(60)
    assert scene.height <= before + 1
    scene.restart(2)
    scene.run_rounds(before + 2)


def test_a_newcomer_has_weight_zero_in_its_first_round_and_full_weight_in_the_next() -> None:
    scene = Scene.of(3)
    newcomer = scene.join()
    scene.run(lambda: newcomer.chain.tip.height > scene.world.settings.nodes + 3, limit=60)
    weights = [s.tokens for record in scene.history(3) for s in record.seats if s.peer == newcomer.peer]
    assert weights[:3] == [0, 80, 80]


def test_a_member_that_leaves_is_not_waited_for() -> None:
    scene = Scene.of(4)
    scene.leave(0)
    assert scene.run_rounds(scene.height + 2, limit=10) < 5
    assert 0 not in members(scene.history(1)[-1])


@pytest.mark.parametrize("victim", range(3))
def test_a_frozen_member_is_dropped_after_its_silence_and_catches_up_when_it_wakes(victim: int) -> None:
    scene = Scene.of(3)
    scene.freeze(victim)
    assert scene.run_rounds(scene.height + 2, limit=30) < 15
    scene.thaw(victim)
    scene.run_until_united()


def test_a_newcomer_that_never_met_the_dead_does_not_keep_them_alive() -> None:
    scene = Scene.of(3)
    scene.kill(2)
    newcomer, height = scene.join(), scene.height
    assert scene.run(lambda: newcomer.chain.tip.height > height + 1, limit=60) < 15


@pytest.mark.parametrize("records", [True, False])
def test_a_restarted_member_is_one_again(records: bool) -> None:
    scene = Scene.of(3, links="wan")
    scene.kill(1)
    scene.run_rounds(scene.height + 1)
    scene.restart(1, records=records)
    scene.run_until_united()
    assert 1 in members(scene.history(0)[-1])


def test_a_dead_peer_is_forgotten_after_a_while() -> None:
    scene = Scene.of(3)
    victim = scene.nodes[2].peer
    scene.kill(2)
    scene.rest(90)
    for survivor in scene.live():
        assert victim not in survivor.core.board.statuses
        assert victim not in survivor.core.board.liveness.peers()


@pytest.mark.parametrize("seed", range(4))
def test_halves_of_a_partition_go_on_and_the_heavier_one_wins_when_they_meet(seed: int) -> None:
    scene = Scene.of(5, seed)
    scene.split(3, 4)
    start = scene.height
    scene.run_rounds(start + 4)
    many, few = scene.history(0), scene.history(3)
    assert [members(many[-1]), members(few[-1])] == [[0, 1, 2], [3, 4]]
    scene.heal()
    scene.run_until_united()
    assert scene.history(3)[start + 3] == many[start + 3]


def test_all_but_one_die_and_the_last_goes_on() -> None:
    scene = Scene.of(4)
    scene.kill(0, 1, 2)
    scene.run_rounds(scene.height + 3)
    assert members(scene.history(3)[-1]) == [3]
    newcomer = scene.join()
    scene.run(lambda: newcomer.peer in scene.nodes[3].core.board.head.view, limit=60)


def test_clocks_minutes_apart_do_no_harm() -> None:
    scene = Scene(replace(QUICK, nodes=4))
    scene.run(lambda: len(scene.nodes) == 4, 5)
    for node in scene.nodes.values():
        node.offset += 300.0 * node.index
    scene.run_rounds(3)
    assert not any(scene.events(number, "dead") for number in range(4))
