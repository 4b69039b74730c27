"""Messages keep their order within a lane, however late; bandwidth is shared; frames can be damaged."""

from __future__ import annotations

import random

import pytest

from p2p.protocol.transfer_messages import GetManifest
from swarm.simulate.virtual.host import WireState
from swarm.simulate.virtual.links import PROFILES, RETRANSMIT_TICKS, noise_table
from tests.swarm.simulate.virtual.hosts import Net


@pytest.mark.parametrize("links", PROFILES)
def test_small_messages_arrive_in_order_and_never_sooner_than_the_distance(links: str) -> None:
    net = Net(3, links)
    began = net.timeline.tick
    for number in range(500):
        net.send(0, 1, number)
    net.run(10)
    assert net.hosts[1].events(int) == list(range(500))
    assert net.hosts[1].heard[0][0] >= began + net.hosts[0].wires[net.hosts[1].peer].delay
    assert net.hosts[2].heard == []


def test_a_broadcast_reaches_everybody_in_line_with_what_was_sent_before() -> None:
    net = Net(5, "wan")
    for number in range(50):
        net.send(0, 3, number)
    net.lanes.broadcast(net.hosts[0].wires.values(), GetManifest(request=99, round=0))
    net.run(10)
    assert [host.events(int)[-1] for host in net.hosts[1:]] == [99] * 4
    assert net.hosts[3].events(int) == [*range(50), 99]


def test_bulk_shares_the_bandwidth_of_its_sender_and_keeps_its_order() -> None:
    net = Net(3)
    began, host = net.timeline.tick, net.hosts[0]
    leaves = [net.send_bulk(0, 1 + turn % 2, f"piece {turn}", int(100 * host.up)) for turn in range(10)]
    assert leaves == pytest.approx([began + 100 * (turn + 1) for turn in range(10)], abs=2)
    net.send(0, 1, 7)
    net.run(5)
    assert net.hosts[1].events() == [f"piece {turn}" for turn in range(0, 10, 2)]
    assert net.hosts[1].heard[0][1] == 7, "small messages do not wait behind payload"


def test_loss_shows_as_rare_long_delays() -> None:
    profile = PROFILES["wan"]
    table = noise_table(profile, random.Random(1))
    late = [delay for delay in table if delay > profile.jitter]
    assert 0.3 * profile.loss < len(late) / len(table) < 3 * profile.loss
    assert min(late) >= RETRANSMIT_TICKS


def test_a_damaged_frame_ends_the_link_and_is_not_delivered() -> None:
    net = Net(2)
    net.hosts[0].wires[net.hosts[1].peer].state = WireState.POISONED
    net.send(0, 1, 1)
    net.send(0, 1, 2)
    net.run(1)
    assert net.hosts[1].events(int) == []
    assert net.hosts[1].events() == ["down 0: bad message: not msgpack", "up 0"]
    assert net.hosts[0].events()[-1] == "up 1"


def test_a_message_that_its_receiver_refuses_ends_the_link() -> None:
    net = Net(2)
    net.send_bulk(0, 1, "nonsense", 10)
    net.run(1)
    assert net.hosts[1].accused == ["nonsense"]
    assert net.hosts[1].events()[0] == "down 0: bad message: nonsense"


def test_messages_may_travel_as_bytes() -> None:
    net = Net(2)
    net.lanes._encoded = True
    net.send(0, 1, 5)
    net.run(1)
    assert net.hosts[1].events(int) == [5]
