"""Meshes on loopback: links, messages, ends. Hostile visitors: test_listener.py, killed peers: test_processes.py."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from math import inf

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import p2p.channel.connection
import p2p.channel.link
import p2p.channel.widening
from p2p.channel.frames import MAX_PAYLOAD_BYTES
from p2p.channel.hello import Contacts, RunIdentity
from p2p.channel.link import LinkLost
from p2p.channel.mesh import Mesh
from p2p.channel.sealed_transport import WORTH_SLEEPING_FOR
from p2p.channel.sealing import RECORD_BYTES
from p2p.channel.tuning import look_for_room
from p2p.channel.widening import NO_FLOW
from tests.p2p.channel.nodes import DEADLINE_SECONDS, RUN, Node, NodeFactory, bulk, small, sorted_identities


async def linked_pair(new_node: NodeFactory, **options: object) -> tuple[Node, Node]:
    """Two linked nodes; the second has dialled the first."""
    a, b = await new_node(**options), await new_node(**options)
    b.mesh.dial(a.contact())
    await asyncio.gather(a.linked(b), b.linked(a))
    return a, b


async def test_messages_and_payloads_arrive_both_ways(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    payload = os.urandom(3_000_000)
    for sender, receiver in ((a, b), (b, a)):
        assert sender.mesh.send(receiver.peer, small(1))
        views = [memoryview(payload)[:4096], memoryview(b""), memoryview(payload)[4096:]]
        await sender.mesh.send_bulk(receiver.peer, bulk(2), views)
        await sender.mesh.send_bulk(receiver.peer, bulk(3), [])
        await receiver.until(lambda receiver=receiver: len(receiver.messages) == 3)
        assert receiver.messages[-2:] == [(sender.peer, bulk(2), payload), (sender.peer, bulk(3), None)]
    assert a.mesh.peers() == {b.peer}
    assert a.mesh.hello(b.peer) == a.hellos[0]
    assert a.hellos[0].peer == b.peer
    assert a.hellos[0].instance == b.mesh.instance


async def test_control_messages_keep_their_order(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    for number in range(2000):
        assert a.mesh.send(b.peer, small(number))
    await b.until(lambda: len(b.messages) == 2000)
    assert [message for _, message, _ in b.messages] == [small(number) for number in range(2000)]


@pytest.mark.parametrize("lanes", [1, 3])
async def test_many_senders_share_the_lanes(new_node: NodeFactory, lanes: int) -> None:
    a, b = await linked_pair(new_node, bulk_lanes=lanes)
    payloads = [bytes([number]) * (100_000 + number) for number in range(20)]
    sends = [a.mesh.send_bulk(b.peer, bulk(i), [memoryview(data)]) for i, data in enumerate(payloads)]
    await asyncio.gather(*sends)
    await b.until(lambda: len(b.messages) == 20)
    assert {message.request: payload for _, message, payload in b.messages} == dict(enumerate(payloads))


@pytest.fixture
def lanes_fill_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p2p.channel.link, "under_way", lambda _round_trip: 0)
    monkeypatch.setattr(p2p.channel.widening, "WINDOW_SECONDS", 1e-9)


async def carry(sender: Node, receiver: Node) -> None:
    """A payload, between two looks at the flow."""
    receiver.mesh.widen()
    await sender.mesh.send_bulk(receiver.peer, bulk(1), [memoryview(bytes(100_000))])
    await receiver.until(lambda: receiver.messages)
    receiver.messages.clear()
    receiver.mesh.widen()


@pytest.mark.usefixtures("lanes_fill_at_once")
async def test_a_link_whose_lanes_are_full_gets_another_for_both_directions(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while a.mesh.lanes(b.peer) < 3 or b.mesh.lanes(a.peer) < 3:
            await carry(a, b)
    assert a.mesh.lanes("nobody") == 0
    payloads = [bytes([number]) * 100_000 for number in range(20)]
    sends = [a.mesh.send_bulk(b.peer, bulk(i), [memoryview(data)]) for i, data in enumerate(payloads)]
    await asyncio.gather(*sends)
    await b.until(lambda: len(b.messages) == 20)
    assert not a.said("down") + b.said("down")


@pytest.mark.usefixtures("lanes_fill_at_once")
async def test_a_link_that_gets_no_other_lane_does_with_what_it_has(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    await a.mesh.send_bulk(b.peer, bulk(1), [memoryview(b"x")])
    await a.mesh._listener.close()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not b.mesh._widened:
            await carry(a, b)
        while b.mesh._tasks:
            await asyncio.wait(b.mesh._tasks)
    for _ in range(3):
        await carry(a, b)
        assert not b.mesh._tasks, "it is not tried again"
    assert b.mesh.lanes(a.peer) == 1
    assert not a.said("down") + b.said("down")


async def test_a_further_lane_of_a_long_way_carries_padding_first_and_nobody_sees_it(
    new_node: NodeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(p2p.channel.connection, "LONG_WAY_SECONDS", 1e-9)
    a, b = await linked_pair(new_node, bulk_lanes=2)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while a.mesh.lanes(b.peer) < 2:
            await carry(a, b)
        [link] = a.mesh._links.values()
        first, second = link._bulk.values()
        while not second._warm_up.over:
            a.mesh.widen()
            await asyncio.sleep(0)
    assert not first._warm_up.over, "the first lane grows by what it carries"
    await carry(a, b)
    await b.until(lambda: b.mesh.wire_bytes("bulk").received > 210_000)
    assert not a.said("down") + b.said("down")


async def test_a_payload_arrives_though_its_lane_looks_for_room(
    new_node: NodeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    sought: list[socket.socket] = []
    monkeypatch.setattr(p2p.channel.connection, "look_for_room", lambda tcp: (sought.append(tcp), look_for_room(tcp)))
    a, b = await linked_pair(new_node)
    payload = os.urandom(MAX_PAYLOAD_BYTES)
    await carry(a, b)
    sending = asyncio.create_task(a.mesh.send_bulk(b.peer, bulk(1), [memoryview(payload)]))
    await asyncio.sleep(0)
    a.mesh.hasten(b.peer, 0)
    assert not sought, "it does not pay"
    a.mesh.hasten(b.peer, 1 << 40)
    assert len(sought) == 1
    a.mesh.allot({b.peer: 1e9})
    a.mesh.hasten(b.peer, 0)
    assert len(sought) == 2, "with a pace it costs nothing"
    await sending
    await b.until(lambda: b.messages)
    assert b.messages == [(a.peer, bulk(1), payload)]
    a.mesh.hasten("nobody", 1 << 40)


async def test_the_lanes_of_a_link_share_its_pace_until_it_has_none(
    new_node: NodeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces: list[float] = []
    a, b = await linked_pair(new_node, bulk_lanes=2)
    while a.mesh.lanes(b.peer) < 2:
        await carry(b, a)
    monkeypatch.setattr(p2p.channel.connection, "pace", lambda _tcp, rate: paces.append(rate))
    with monkeypatch.context() as patch:
        patch.setattr(p2p.channel.connection.Connection, "grown", False)
        a.mesh.allot({b.peer: 2e6})
    assert paces == [2e6, 2e6], "a young one has nothing to carry yet"
    paces.clear()
    for peers in ({b.peer: 3e6}, {b.peer: 3.01e6}, {"nobody": 1.0}, {}):
        a.mesh.allot(peers)
    assert paces == [1.5e6, 1.5e6, inf, inf], "one that differs by less than a percent is left"
    assert a.mesh.flow(b.peer).lanes == 2
    assert a.mesh.flow("nobody") == NO_FLOW


@pytest.mark.parametrize("wanted", [True, False])
async def test_the_end_of_a_payload_arrives_though_nothing_follows_it(new_node: NodeFactory, wanted: bool) -> None:
    a, b = await linked_pair(new_node)
    step = WORTH_SLEEPING_FOR // 2
    sizes = [1, *range(step, 2 * RECORD_BYTES + 2 * WORTH_SLEEPING_FOR, step), 1_000_000]
    for number, size in enumerate(sizes):
        b.memory = lambda size: [memoryview(bytearray(size))] if wanted else None
        payload = os.urandom(size)
        await a.mesh.send_bulk(b.peer, bulk(number), [memoryview(payload)])
        if not wanted:
            await a.mesh.send_bulk(b.peer, bulk(number), [])
        await b.until(lambda number=number: len(b.messages) == number + 1)
        assert b.messages[-1] == (a.peer, bulk(number), payload if wanted else None)


async def test_a_payload_that_nobody_wants_is_dropped(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    b.memory = lambda size: None
    await a.mesh.send_bulk(b.peer, bulk(1), [memoryview(bytes(500_000))])
    await a.mesh.send_bulk(b.peer, bulk(2), [])
    await b.until(lambda: b.messages)
    assert b.messages == [(a.peer, bulk(2), None)]


async def test_a_payload_is_scattered_over_the_memory_given(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    memory = bytearray(1 << 20)
    views = [memoryview(memory)[:1000], memoryview(memory)[500_000:]]
    b.memory = lambda size: views
    payload = os.urandom(1000 + len(memory) - 500_000)
    await a.mesh.send_bulk(b.peer, bulk(1), [memoryview(payload)])
    await b.until(lambda: b.messages)
    assert memory[:1000] == payload[:1000]
    assert memory[500_000:] == payload[1000:]
    assert not any(memory[1000:500_000])


async def test_a_cancelled_send_leaves_the_stream_whole(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    await a.mesh.send_bulk(b.peer, bulk(100), [])  # the bulk lane is up
    data = memoryview(bytes(MAX_PAYLOAD_BYTES))
    tasks = [asyncio.create_task(a.mesh.send_bulk(b.peer, bulk(number), [data])) for number in range(4)]
    await asyncio.sleep(0)  # the first has begun, the others wait behind it
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await a.mesh.send_bulk(b.peer, bulk(9), [memoryview(b"after")])
    await b.until(lambda: b.messages and b.messages[-1][1] == bulk(9))
    assert [message.request for _, message, _ in b.messages] == [100, 0, 9]
    assert b.messages[-1][2] == b"after"


async def test_there_is_nothing_to_send_over_without_a_link(new_node: NodeFactory) -> None:
    a, b = await new_node(), await new_node()
    assert not a.mesh.send(b.peer, small(1))
    with pytest.raises(LinkLost, match="no link"):
        await a.mesh.send_bulk(b.peer, bulk(1), [])


async def test_frames_beyond_the_limits_are_the_senders_mistake(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    with pytest.raises(ValueError, match="exceeds the limits"):
        await a.mesh.send_bulk(b.peer, bulk(1), [memoryview(bytes(MAX_PAYLOAD_BYTES + 1))])
    assert a.mesh.send(b.peer, small(1))
    await b.until(lambda: b.messages)


async def test_a_link_that_ends_fails_the_sends_in_progress(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    data = memoryview(bytes(MAX_PAYLOAD_BYTES))
    sends = [asyncio.create_task(a.mesh.send_bulk(b.peer, bulk(number), [data])) for number in range(8)]
    await b.until(lambda: b.messages)
    b.mesh.forget(a.peer)
    b.mesh.drop(a.peer, "enough")
    results = await asyncio.gather(*sends, return_exceptions=True)
    assert isinstance(results[-1], LinkLost)
    await a.until(lambda: a.said("down"))


async def test_the_reason_of_an_end_is_told(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    await a.mesh.send_bulk(b.peer, bulk(1), [])  # the bulk lane is up
    a.mesh.drop(b.peer, "you are too slow")
    await b.until(lambda: b.said("down"))
    assert a.said("down") == [(b.peer, "you are too slow")]
    assert b.said("down") == [(a.peer, "closed by the peer: you are too slow")]
    await b.until(lambda: len(b.said("up")) == 2)  # it dials again
    assert not b.said("unreachable")


@pytest.mark.parametrize("poison", [small(666), bulk(666)])
async def test_a_message_that_the_handler_finds_bad_ends_the_link(new_node: NodeFactory, poison: object) -> None:
    a, b = await linked_pair(new_node)
    a.poison = poison
    b.mesh.forget(a.peer)
    await b.mesh.send_bulk(a.peer, bulk(1), [])
    b.mesh.send(a.peer, small(666))
    await b.mesh.send_bulk(a.peer, bulk(666), [memoryview(b"x")])
    await asyncio.gather(a.until(lambda: a.said("down")), b.until(lambda: b.said("down")))
    assert a.said("down") == [(b.peer, "bad message: poison")]
    assert b.said("down") == [(a.peer, "closed by the peer: bad message: poison")]


async def test_a_payload_on_the_control_lane_ends_the_link(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    b.mesh._links[a.peer]._control.enqueue(b"\x91\xa3bye", [memoryview(b"payload")])  # as no honest node does
    await a.until(lambda: a.said("down"))
    assert a.said("down")[0][1].startswith("bad message")


async def test_simultaneous_dials_leave_one_link_that_both_agree_on(new_node: NodeFactory) -> None:
    for _ in range(10):
        a, b = await new_node(bulk_lanes=2), await new_node(bulk_lanes=2)
        a.mesh.dial(b.contact())
        b.mesh.dial(a.contact())
        await asyncio.gather(a.linked(b), b.linked(a))
        for sender, receiver in ((a, b), (b, a)):
            for number in range(4):
                await sender.mesh.send_bulk(receiver.peer, bulk(number), [memoryview(b"x")])
        await asyncio.gather(*(node.until(lambda node=node: len(node.messages) == 4) for node in (a, b)))
        assert [len(node.said("up")) - len(node.said("down")) for node in (a, b)] == [1, 1]
        assert a.mesh._links[b.peer].id == b.mesh._links[a.peer].id  # nothing public names a link
        assert not a.said("refused") + b.said("refused")


async def test_three_nodes_that_all_dial_each_other_settle(new_node: NodeFactory) -> None:
    nodes = [await new_node() for _ in range(3)]
    for node in nodes:
        for other in nodes:
            node.mesh.dial(other.contact())  # itself too: ignored
    await asyncio.gather(*(node.linked(*(other for other in nodes if other is not node)) for node in nodes))
    for node in nodes:
        assert node.mesh.peers() == {other.peer for other in nodes if other is not node}


@pytest.mark.parametrize("restarted_is_smaller", [True, False])
@pytest.mark.parametrize("restarted_dials", [True, False])
async def test_a_restarted_peer_replaces_its_old_links(
    new_node: NodeFactory, restarted_is_smaller: bool, restarted_dials: bool
) -> None:
    small_id, large_id = sorted_identities(2)
    identity, other = (small_id, large_id) if restarted_is_smaller else (large_id, small_id)
    a, old = await new_node(identity=other), await new_node(identity=identity)
    old.mesh.dial(a.contact())
    await asyncio.gather(a.linked(old), old.linked(a))
    new = await new_node(identity=identity)  # the old process is gone, but nobody has noticed yet
    old.mesh.forget(a.peer)
    if restarted_dials:
        new.mesh.dial(a.contact())
        await a.until(lambda: len(a.said("up")) == 2)
        assert a.said("down") == [(old.peer, "the peer restarted")]
    else:
        old.mesh.drop(a.peer, "killed")
        await a.until(lambda: a.said("down"))
        a.mesh.dial(new.contact())
    await asyncio.gather(a.linked(new), new.linked(a))
    assert a.hellos[-1].instance == new.mesh.instance
    assert a.mesh.send(new.peer, small(1))
    await new.until(lambda: new.messages)
    assert not old.messages


@pytest.mark.parametrize("loser", [0, 1])
async def test_a_link_that_only_one_side_has_lost_is_replaced(new_node: NodeFactory, loser: int) -> None:
    """As when a NAT box forgets a connection: one end is told by its kernel, the other not for a long time."""
    identities = sorted_identities(2)
    deaf, lost = await new_node(identity=identities[1 - loser]), await new_node(identity=identities[loser])
    lost.mesh.dial(deaf.contact())
    await asyncio.gather(deaf.linked(lost), lost.linked(deaf))
    await lost.mesh.send_bulk(deaf.peer, bulk(1), [])
    await deaf.until(lambda: deaf.messages)
    link = deaf.mesh._links[lost.peer]
    link._control._transport.pause_reading()  # type: ignore[union-attr]  # so that it does not notice
    for connection in link._bulk.values():
        asyncio.get_running_loop().remove_reader(connection._transport.get_extra_info("socket"))
    for connection in link._connections():
        connection.eof_received = lambda: None  # type: ignore[method-assign]
    lost.mesh._links[deaf.peer].shut("the network said so", tell=False)
    await lost.until(lambda: len(lost.said("up")) == 2)
    await deaf.until(lambda: len(deaf.said("up")) == 2)
    assert deaf.mesh.send(lost.peer, small(7))
    await lost.until(lambda: lost.messages)
    await asyncio.sleep(0)
    assert lost.mesh._links[deaf.peer].id == deaf.mesh._links[lost.peer].id


async def test_another_run_is_refused_with_the_names_and_values_on_both_sides(new_node: NodeFactory) -> None:
    a = await new_node()
    b = await new_node(run=RunIdentity(b"o" * 32, {"model": "demo", "outer_lr": 0.5, "seed": 1}))
    b.mesh.dial(a.contact())
    await asyncio.gather(a.until(lambda: a.said("refused")), b.until(lambda: b.said("refused")))
    ours = "another run: outer_lr is 0.7 here, 0.5 there; seed is absent here, 1 there"
    theirs = "refused by the peer: another run: outer_lr is 0.5 here, 0.7 there; seed is 1 here, absent there"
    assert a.said("refused") == [(b.peer, ours)]
    assert b.said("refused") == [(a.peer, theirs)]
    b.mesh.dial(a.contact(sequence=2))  # a newer contact is worth another try
    await a.until(lambda: len(a.said("refused")) == 2)
    assert not a.mesh.peers() | b.mesh.peers()


async def test_an_observer_of_no_run_is_let_in_and_told_of_nobody(new_node: NodeFactory) -> None:
    a, b = await new_node(), await new_node()
    for node in (a, b):
        node.mesh.introduce_self(node.signed_contact())
    b.mesh.dial(a.contact())
    await a.linked(b)
    observer = await new_node(run=RunIdentity(b""), role="observer")
    observer.mesh.dial(a.contact())
    await asyncio.gather(a.linked(observer), observer.linked(a))
    assert a.hellos[1].role == "observer"
    a.mesh.send(observer.peer, small(1))
    await observer.until(lambda: observer.messages)
    assert observer.mesh.contacts() == []
    observer.mesh.send(a.peer, Contacts(contacts=(b.signed_contact(),)))
    await a.until(lambda: a.said("down"))
    assert a.said("down") == [(observer.peer, "bad message: an observer sends nothing")]


async def test_who_is_not_admitted_is_told_so(new_node: NodeFactory) -> None:
    a = await new_node(admit=lambda hello: "not on the list")
    b = await new_node()
    b.mesh.dial(a.contact())
    await b.until(lambda: b.said("refused"))
    assert b.said("refused") == [(a.peer, "refused by the peer: not on the list")]


async def test_one_link_to_anybody_leads_to_everybody(new_node: NodeFactory) -> None:
    nodes = [await new_node() for _ in range(5)]
    for node in nodes:
        node.mesh.introduce_self(node.signed_contact())
    for node, other in itertools.pairwise(nodes):  # all at once, each knows one other
        node.mesh.meet(other.signed_contact(), "a friend")
    await asyncio.gather(*(node.linked(*(other for other in nodes if other is not node)) for node in nodes))
    assert {signed.contact.peer for signed in nodes[0].mesh.met()} == {node.peer for node in nodes[1:]}
    nodes[0].mesh.forget(nodes[4].peer)
    assert nodes[4].signed_contact() not in nodes[0].mesh.contacts()


async def test_a_remembered_peer_is_found_again(new_node: NodeFactory) -> None:
    a, b, c = await new_node(), await new_node(), await new_node()
    for node in (a, b, c):
        node.mesh.introduce_self(node.signed_contact())
    b.mesh.meet(a.signed_contact(), "a friend")
    await b.linked(a)
    c.mesh.remember(a.signed_contact())  # of c's former life
    await asyncio.gather(c.linked(a, b), a.linked(c), b.linked(c))


async def test_a_forged_contact_ends_the_link(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    victim = await new_node()
    forged = victim.signed_contact().model_copy(update={"signature": bytes(64)})
    b.mesh.forget(a.peer)
    b.mesh.send(a.peer, Contacts(contacts=(forged,)))
    await a.until(lambda: a.said("down"))
    assert a.said("down") == [(b.peer, f"bad message: contact of {victim.peer} is not signed by it")]


@pytest.mark.parametrize("host", ["..", "x" * 70, "%", "-"])
async def test_an_address_that_is_none_is_one_that_does_not_answer(new_node: NodeFactory, host: str) -> None:
    a, b = await new_node(), await new_node()
    b.mesh.dial(a.contact(1, (host, 1)))  # its second address is right
    await b.linked(a)


async def test_the_wire_is_counted_as_encrypted_and_within_two_percent(new_node: NodeFactory) -> None:
    a, b = await linked_pair(new_node)
    data = memoryview(bytes(1 << 20))
    for number in range(32):
        await a.mesh.send_bulk(b.peer, bulk(number), [data])
    await b.until(lambda: len(b.messages) == 32)
    payload = 32 << 20
    assert a.mesh.wire_bytes_exact
    assert payload < b.mesh.wire_bytes("bulk").received < 1.02 * payload
    assert payload < a.mesh.wire_bytes("bulk").sent < 1.02 * payload
    assert a.mesh.wire_bytes("control").sent < 20_000
    before = b.mesh.wire_bytes().received
    await asyncio.gather(a.mesh.close(), b.mesh.close())
    assert before <= b.mesh.wire_bytes().received < 1.02 * payload  # closed sockets stay counted


async def test_a_peer_that_dialled_us_is_looked_for_when_it_goes(new_node: NodeFactory) -> None:
    a, b = await new_node(), await new_node()
    b.mesh.introduce_self(b.signed_contact())
    b.mesh.dial(a.contact())
    await asyncio.gather(a.linked(b), b.linked(a))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not a.mesh.met():  # noqa: ASYNC110 - nothing is told when a contact arrives
            await asyncio.sleep(0.001)
    await b.mesh.close()
    await a.until(lambda: a.said("unreachable"))
    assert [event for event, _, _ in a.diary] == ["up", "down", "unreachable"]


def open_sockets() -> set[str]:
    paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return {target for path in paths if os.path.lexists(path) and (target := os.readlink(path)).startswith("socket")}


async def test_close_says_goodbye_and_leaves_nothing_open(new_node: NodeFactory) -> None:
    before = open_sockets()
    a, b, c = await new_node(), await new_node(), await new_node()
    b.mesh.dial(a.contact())
    await asyncio.gather(a.linked(b), b.linked(a))
    c.mesh.dial(b.contact().model_copy(update={"addresses": (("127.0.0.1", 1),)}))  # nobody there
    await a.mesh.close()
    await b.until(lambda: b.said("unreachable"))
    assert b.said("down") == [(a.peer, "closed by the peer: leaving")]
    assert a.said("down") == [(b.peer, "leaving")]
    await asyncio.gather(b.mesh.close(), c.mesh.close())
    await asyncio.sleep(0.01)  # the loop closes descriptors a turn later
    assert open_sockets() <= before
    a.mesh.dial(b.contact())  # too late: ignored


async def test_a_mesh_that_never_listened_can_dial_and_close() -> None:
    nodes = [Node(), Node()]
    await nodes[0].listen()
    nodes[1].mesh.dial(nodes[0].contact())
    await asyncio.gather(nodes[0].linked(nodes[1]), nodes[1].linked(nodes[0]))
    for node in nodes:
        await node.mesh.close()


def test_the_number_of_lanes_is_bounded() -> None:
    with pytest.raises(AssertionError):
        Mesh(sorted_identities(1)[0], RUN, None, bulk_lanes=0)  # type: ignore[arg-type]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=6))
async def test_payloads_of_any_size_arrive_whole(sizes: list[int]) -> None:
    a, b = Node(), Node()
    await a.listen()
    b.mesh.dial(a.contact())
    await b.linked(a)
    try:
        payload = os.urandom(sum(sizes))
        ends = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        views = [memoryview(payload)[ends[i] : ends[i + 1]] for i in range(len(sizes))]
        await b.mesh.send_bulk(a.peer, bulk(1), views)
        await a.until(lambda: a.messages)
        assert a.messages == [(b.peer, bulk(1), payload or None)]
    finally:
        await asyncio.gather(a.mesh.close(), b.mesh.close())
