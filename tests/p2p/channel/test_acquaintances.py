"""Whom a node dials and tells of whom. What comes of it in whole swarms: tests/p2p/discovery/test_virtual_peers.py."""

from __future__ import annotations

from random import Random

import pytest

from p2p.channel import acquaintances
from p2p.channel.acquaintances import (
    FORGET_SECONDS,
    MAX_UNMET,
    TELL_SECONDS,
    UNMET_TRIES,
    Acquaintances,
    Dial,
    Tell,
)
from p2p.channel.dialler import LONGEST_PAUSE_SECONDS, NEVER, Setback
from p2p.channel.handshake import refusal
from p2p.channel.hello import MAX_CONTACTS_TOLD
from p2p.contact import MAX_KNOWN, Contact, SignedContact, sign_contact
from p2p.identity import Identity
from p2p.protocol.model import BadMessage

RUN = b"r" * 32
ME, A, B, C = (Identity.generate() for _ in range(4))
REFUSED = ConnectionRefusedError(111, "Connection refused")


def signed(identity: Identity, sequence: int = 1, port: int = 7400, fingerprint: bytes = RUN) -> SignedContact:
    addresses = (("192.0.2.1", port),) if port else ()
    peer = identity.peer_id
    contact = Contact(peer=peer, p2pd="", addresses=addresses, fingerprint=fingerprint, sequence=sequence)
    return sign_contact(identity, contact)


def forged(identity: Identity) -> SignedContact:
    return SignedContact(contact=signed(identity).contact, signature=bytes(64))


class World:
    """One node's acquaintances, and the time."""

    def __init__(self, dials: bool = True) -> None:
        self.now = 50.0
        self.core = Acquaintances(ME.peer_id, RUN, Random(0), dials)

    def hear(self, contact: SignedContact, source: str = "DHT") -> None:
        self.core.hear(contact, source, self.now)

    def link(self, *identities: Identity, member: bool = True) -> None:
        for identity in identities:
            self.core.link_up(identity.peer_id, member, self.now)

    def step(self, after: float = 0.0) -> tuple[list[str], dict[str, list[str]]]:
        """(peers dialled, peer -> peers it is told of) after that time."""
        self.now += after
        dials: list[str] = []
        told: dict[str, list[str]] = {}
        for effect in self.core.step(self.now):
            if isinstance(effect, Dial):
                dials.append(effect.contact.peer)
            else:
                assert len(effect.contacts) <= MAX_CONTACTS_TOLD
                told.setdefault(effect.peer, []).extend(contact.contact.peer for contact in effect.contacts)
        return dials, told

    def fail_all(self, seconds: float) -> int:
        """Let dials fail for so long; how many there were."""
        end, count = self.now + seconds, 0
        while (when := self.core.wake_at()) <= end:
            self.now = max(self.now, when)
            for effect in self.core.step(self.now):
                assert isinstance(effect, Dial)
                count += 1
                self.core.failed(effect.contact.peer, REFUSED, self.now)
        self.now = end
        return count


@pytest.fixture
def world() -> World:
    return World()


def names(*identities: Identity) -> list[str]:
    return [identity.peer_id for identity in identities]


def test_whoever_is_heard_of_is_dialled_once_and_kept_linked(world: World) -> None:
    assert world.core.wake_at() == NEVER
    world.hear(signed(A))
    assert world.core.wake_at() == world.now
    assert world.step() == (names(A), {})
    assert world.step() == ([], {})
    world.link(A)
    world.core.link_down(A.peer_id, world.now)
    assert world.step()[0] == names(A)
    assert world.core.failed(A.peer_id, REFUSED, world.now) == [Setback("unreachable", "Connection refused")]


def test_a_newer_contact_of_a_peer_without_a_link_is_dialled_at_its_new_place(world: World) -> None:
    world.core.remember(signed(A), world.now)
    world.fail_all(600.0)
    world.hear(signed(A, 2, port=7500))
    [dial] = world.core.step(world.now)
    assert isinstance(dial, Dial)
    assert dial.contact.addresses == (("192.0.2.1", 7500),)
    world.hear(signed(A, 1))  # outdated: a sign of life, but no address
    assert world.core.contacts() == [signed(A, 2, port=7500)]


def test_nothing_is_made_of_what_does_not_concern_us(world: World) -> None:
    world.hear(signed(ME))
    world.hear(signed(A, fingerprint=b"o" * 32))
    world.hear(signed(A, port=0))
    world.core.remember(signed(A, port=0), world.now)
    assert world.step() == ([], {})
    assert world.core.contacts() == []
    assert world.core.failed(A.peer_id, REFUSED, world.now) == []


def test_linked_peers_are_told_of_us_and_of_each_other_and_only_once(world: World) -> None:
    world.core.introduce_self(signed(ME), world.now)
    for identity in (A, B, C):
        world.hear(signed(identity))
    world.step()
    world.link(A)
    assert world.step() == ([], {A.peer_id: names(ME)})
    world.link(B)
    assert world.step() == ([], {B.peer_id: names(ME, A)})
    assert world.step(TELL_SECONDS)[1] == {A.peer_id: names(B)}  # C is not linked: nothing is said of it
    assert world.step(60.0)[1] == {}
    world.core.introduce_self(signed(ME, 2), world.now)
    world.hear(signed(A, 2))
    assert world.step(TELL_SECONDS)[1] == {}  # nobody has moved
    world.core.introduce_self(signed(ME, 3, port=7500), world.now)
    assert world.step(TELL_SECONDS)[1] == {A.peer_id: names(ME), B.peer_id: names(ME)}
    world.hear(signed(A, 3, port=7500))
    assert world.step(TELL_SECONDS)[1] == {B.peer_id: names(A)}


def test_a_peer_that_comes_back_is_news_again(world: World) -> None:
    for identity in (A, B):
        world.hear(signed(identity))
    world.link(A, B)
    world.step(TELL_SECONDS)
    world.core.link_down(B.peer_id, world.now)
    assert world.step(TELL_SECONDS)[1] == {}
    world.link(B)
    assert world.step(TELL_SECONDS)[1] == {A.peer_id: names(B), B.peer_id: names(A)}


def test_a_peer_whose_contact_comes_after_its_link_is_told_of_then(world: World) -> None:
    world.link(A, B)
    assert world.step(TELL_SECONDS)[1] == {}
    world.core.told(B.peer_id, [signed(B)], world.now)
    assert world.step(TELL_SECONDS) == ([], {A.peer_id: names(B)})
    world.core.link_down(B.peer_id, world.now)
    assert world.step()[0] == names(B)  # it dialled us; now it is looked for


def test_to_be_told_of_a_peer_is_a_sign_of_life(world: World) -> None:
    world.core.remember(signed(A), world.now)
    world.hear(signed(B))
    world.step()
    world.link(B)
    world.step()
    world.core.failed(A.peer_id, REFUSED, world.now)
    world.fail_all(3600.0)
    world.core.told(B.peer_id, [signed(A)], world.now)
    assert world.step()[0] == names(A)


def test_many_contacts_take_many_messages(world: World) -> None:
    crowd = [Identity.generate() for _ in range(MAX_CONTACTS_TOLD + 2)]
    for identity in crowd:
        world.hear(signed(identity))
        world.link(identity)
    world.step(TELL_SECONDS)
    world.link(A)
    effects = [effect for effect in world.core.step(world.now) if isinstance(effect, Tell)]
    assert [len(effect.contacts) for effect in effects] == [MAX_CONTACTS_TOLD, 2]


def test_an_observer_is_neither_told_nor_believed_nor_company(world: World) -> None:
    world.core.introduce_self(signed(ME), world.now)
    world.hear(signed(B))
    world.link(A, member=False)
    world.link(B)
    assert A.peer_id not in world.step(TELL_SECONDS)[1]
    with pytest.raises(BadMessage, match="observer"):
        world.core.told(A.peer_id, [signed(C)], world.now)
    world.core.link_down(B.peer_id, world.now)
    assert world.fail_all(60.0) >= 12  # as a node without any link does


def test_who_only_looks_dials_only_whom_it_is_asked_to() -> None:
    world = World(dials=False)
    world.core.dial(signed(A).contact, world.now)
    assert world.step()[0] == names(A)
    world.link(A)
    world.core.told(A.peer_id, [signed(B)], world.now)
    assert world.step(TELL_SECONDS)[0] == []
    assert world.core.contacts() == [signed(B)]


def test_a_forgery_is_the_tellers_fault(world: World) -> None:
    world.link(A)
    with pytest.raises(BadMessage, match="not signed by it"):
        world.core.told(A.peer_id, [forged(B)], world.now)
    with pytest.raises(BadMessage, match="not signed by it"):
        world.core.remember(forged(B), world.now)
    assert world.step()[0] == []


def test_who_tells_without_end_is_stopped(world: World) -> None:
    world.link(A)
    world.core.told(A.peer_id, [signed(B)] * MAX_KNOWN, world.now)
    with pytest.raises(BadMessage, match="too many"):
        world.core.told(A.peer_id, [signed(B)], world.now)
    world.now += 3600.0
    world.core.told(A.peer_id, [signed(B)] * MAX_KNOWN, world.now)


def test_the_inventions_of_one_source_leave_room_for_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acquaintances, "MAX_UNMET", 3)
    world.link(A)
    crowd = [signed(Identity.generate()) for _ in range(10)]
    world.core.told(A.peer_id, crowd, world.now)
    world.hear(signed(B))
    world.core.told(A.peer_id, [signed(A)], world.now)  # whoever is linked is none of them
    assert len(world.core.contacts()) == 5
    dials, told = world.step(TELL_SECONDS)
    assert len(dials) == 4
    assert B.peer_id in dials
    assert told == {}  # and they are passed on to nobody
    assert MAX_UNMET >= 64


def test_a_peer_never_linked_is_given_up_until_it_is_heard_of_again(world: World) -> None:
    world.hear(signed(A))
    assert world.fail_all(3600.0) == UNMET_TRIES
    assert world.core.contacts() == []
    world.hear(signed(A, 2))
    assert world.step()[0] == names(A)


def test_a_peer_once_linked_is_looked_for_all_day_and_then_forgotten(world: World) -> None:
    world.hear(signed(A))
    world.step()
    world.link(A)
    world.core.link_down(A.peer_id, world.now)
    assert world.core.met() == [signed(A)]
    world.link(B)  # so there is company
    world.step(TELL_SECONDS)
    world.core.failed(A.peer_id, REFUSED, world.now)
    assert world.fail_all(FORGET_SECONDS - 120) >= (FORGET_SECONDS - 120) / LONGEST_PAUSE_SECONDS
    assert world.core.met() == [signed(A)]
    world.fail_all(600.0)
    assert world.core.met() == []
    assert world.fail_all(600.0) == 0


def test_a_node_that_lost_everybody_forgets_nobody(world: World) -> None:
    world.core.remember(signed(A), world.now)
    world.fail_all(10 * FORGET_SECONDS)
    assert world.fail_all(60.0) >= 12


def test_whom_the_owner_names_is_dialled_until_he_says_otherwise(world: World) -> None:
    unsigned = signed(A).contact
    world.core.dial(unsigned, world.now)
    world.core.dial(unsigned, world.now)
    assert world.step()[0] == names(A)
    assert world.core.failed(A.peer_id, refusal("run", "other"), world.now) == [Setback("refused", "other")]
    world.now += 10
    world.core.dial(signed(A, 2).contact, world.now)
    assert world.step()[0] == names(A)
    world.core.failed(A.peer_id, REFUSED, world.now)
    world.core.forget(A.peer_id)
    assert world.core.wake_at() == NEVER
    assert world.core.met() == []
