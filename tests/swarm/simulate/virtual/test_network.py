"""Links come up, end, are dialled again; hosts die, vanish, freeze; cuts are silent or refused."""

from __future__ import annotations

import pytest

from p2p.channel.tuning import DEAD_AFTER_SECONDS
from tests.swarm.simulate.virtual.hosts import Listener, Net


def test_everybody_who_joins_is_linked_with_everybody() -> None:
    net = Net(4)
    assert [len(host.wires) for host in net.hosts] == [3, 3, 3, 3]
    late = Listener(4, net)
    net.network.join(late)
    net.run(1)
    assert sorted(late.events()) == ["up 0", "up 1", "up 2", "up 3"]
    assert all(host.events() == ["up 4"] for host in net.hosts)


def test_a_killed_host_is_noticed_and_cannot_be_dialled() -> None:
    net = Net(2)
    net.network.stop(net.hosts[1], "killed")
    net.run(1)
    assert net.hosts[0].events() == ["down 1: connection reset", "unreachable 1"]
    assert net.hosts[1].heard == []


def test_of_a_vanished_machine_nobody_hears_until_tcp_gives_up() -> None:
    net = Net(2)
    net.hosts[1].gone_silently = True
    net.network.stop(net.hosts[1], "vanished")
    net.send(0, 1, 1)
    net.run(DEAD_AFTER_SECONDS - 1)
    assert net.hosts[0].heard == []
    net.run(20)
    assert net.hosts[0].events() == ["down 1: timed out", "unreachable 1"]


def test_a_restarted_host_replaces_its_old_links_even_before_their_end_was_noticed() -> None:
    net = Net(2, "wan")
    net.hosts[1].gone_silently = True
    net.network.stop(net.hosts[1], "vanished")
    again = Listener(1, net)
    net.network.join(again)
    net.run(3)
    assert net.hosts[0].events() == ["down 1: the peer connected anew", "up 1"]
    assert again.events() == ["up 0"]
    net.send(0, 1, 3)
    net.run(1)
    assert again.events(int) == [3]


def test_a_host_that_dies_while_its_link_comes_up_can_be_reached_after_its_restart() -> None:
    for moment in range(60):
        net = Net(2, "wan", seed=3)
        net.network.end(0, 1, "reset")
        net.run(moment / 200)
        net.network.stop(net.hosts[1], "killed")
        net.network.join(Listener(1, net))
        net.run(20)
        assert net.hosts[0].events()[-1] == "up 1", moment


def test_a_broken_link_is_dialled_again_at_once_and_what_was_on_the_way_is_lost() -> None:
    net = Net(2, "wan")
    net.send(0, 1, 1)
    net.network.end(0, 1, "reset")
    net.run(2)
    assert [what.partition(":")[0] for what in net.hosts[1].events()] == ["down 0", "up 0"]
    assert net.hosts[1].events(int) == []


def test_a_frozen_host_finds_everything_when_it_wakes_up() -> None:
    net = Net(2)
    net.network.freeze(net.hosts[1])
    net.send(0, 1, 1)
    net.run(30)
    assert net.hosts[1].heard == []
    assert net.hosts[0].heard == [], "its kernel holds the link"
    net.network.thaw(net.hosts[1])
    net.run(0.01)
    assert net.hosts[1].events(int) == [1]


def test_a_silent_cut_holds_messages_back_and_a_short_one_loses_none() -> None:
    net = Net(3)
    net.network.cut(0, 1, "silent")
    net.send(0, 1, 1)
    net.send_bulk(0, 1, "piece", 100)
    net.send(0, 2, 2)
    net.run(5)
    assert net.hosts[1].heard == []
    assert net.hosts[2].events(int) == [2]
    assert not net.network.connected(net.hosts[0], net.hosts[1])
    net.network.mend(0, 1)
    net.run(2)
    assert [what for _, what in net.hosts[1].heard] == [1, "piece"]


def test_a_long_silent_cut_ends_the_link_and_dials_time_out() -> None:
    net = Net(2)
    net.network.cut(0, 1, "silent")
    net.run(DEAD_AFTER_SECONDS + 15)
    assert net.hosts[0].events() == ["down 1: timed out", "unreachable 1"]
    net.network.mend(0, 1)
    net.run(40)
    assert net.hosts[0].events()[-1] == "up 1"


def test_a_refused_cut_ends_the_link_at_once() -> None:
    net = Net(2)
    net.network.cut(0, 1, "refused")
    net.run(1)
    assert net.hosts[0].events() == ["down 1: connection reset", "unreachable 1"]


@pytest.mark.parametrize("kind", ["silent", "refused"])
def test_a_partition_parts_the_sides_also_for_those_who_join_later(kind: str) -> None:
    net = Net(4)
    net.network.split([0, 1], kind)  # type: ignore[arg-type]
    late = Listener(4, net)
    late.side = 1
    net.network.join(late)
    net.run(60)
    assert sorted(late.events()) == ["up 0", "up 1"]
    assert net.network.connected(net.hosts[0], net.hosts[1])
    assert not net.network.connected(net.hosts[0], net.hosts[2])
    net.network.heal()
    net.run(40)
    assert net.network.connected(net.hosts[0], net.hosts[2])
    assert len(late.wires) == 4


def test_who_leaves_is_heard_to_the_last_word() -> None:
    net = Net(2, "wan")
    net.send(0, 1, 1)
    net.network.stop(net.hosts[0], "left")
    net.run(2)
    assert net.hosts[1].heard[0][1] == 1
    assert net.hosts[1].events() == ["down 0: closed by the peer: leaving", "unreachable 0"]
