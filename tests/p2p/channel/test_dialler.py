"""When a dialler dials, and what it tells: in seconds that nobody waits for."""

from __future__ import annotations

from random import Random

from p2p.channel.dialler import (
    BRIEF_LINKS_IN_A_ROW,
    FIRST_PAUSE_SECONDS,
    LASTING_LINK_SECONDS,
    LONELY_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    NEVER,
    NEWS_PAUSE_SECONDS,
    REFUSED_PAUSE_SECONDS,
    Dialler,
    Setback,
)
from p2p.channel.handshake import Refusal, refusal
from p2p.contact import Contact
from p2p.identity import Identity

PEER = Identity.generate().peer_id
REFUSED = ConnectionRefusedError(111, "Connection refused")


def contact(sequence: int = 1, port: int = 7400) -> Contact:
    return Contact(peer=PEER, p2pd="", addresses=(("192.0.2.1", port),), fingerprint=bytes(32), sequence=sequence)


class World:
    """A dialler and the time."""

    def __init__(self, lonely: bool = False) -> None:
        self.now = 1000.0
        self.lonely = lonely
        self.dialler = Dialler(contact(), self.now, Random(0))

    def wait(self) -> float:
        """Let the time pass until the next attempt begins; how long that took."""
        due = self.dialler.due(self.lonely)
        assert due < NEVER, "it never dials again"
        waited = max(0.0, due - self.now)
        self.now += waited
        self.dialler.begin(self.now)
        return waited

    def fails(self, error: Refusal | OSError = REFUSED) -> list[Setback]:
        self.wait()
        return self.dialler.failed(error, self.now)

    def succeeds(self) -> None:
        self.wait()
        self.dialler.link_up(self.now)

    def loses(self, after: float = 2 * LASTING_LINK_SECONDS) -> None:
        self.now += after
        self.dialler.link_down(self.now)


def pauses(world: World, count: int) -> list[float]:
    found, told = [], list[Setback]()
    for _ in range(count):
        found.append(world.wait())
        told += world.dialler.failed(REFUSED, world.now)
    assert len(told) <= 1, "the same is no news"
    return found


def test_it_dials_at_once_and_then_for_ever_with_growing_pauses() -> None:
    found = pauses(World(), 30)
    assert found[0] == 0
    assert 0.7 * FIRST_PAUSE_SECONDS <= found[1] <= FIRST_PAUSE_SECONDS
    assert all(0.7 * LONGEST_PAUSE_SECONDS <= pause <= LONGEST_PAUSE_SECONDS for pause in found[-10:])


def test_without_any_link_it_hurries() -> None:
    assert max(pauses(World(lonely=True), 30)) <= LONELY_PAUSE_SECONDS
    world = World()
    pauses(world, 30)
    world.lonely = True  # the last other link has ended
    assert world.wait() <= LONELY_PAUSE_SECONDS


def test_a_lost_peer_that_cannot_be_reached_is_told_once_and_at_once() -> None:
    world = World()
    for reason, error in (("Connection refused", REFUSED), ("timed out", TimeoutError()), ("odd", OSError("odd"))):
        world.succeeds()
        world.loses()
        assert world.dialler.due(False) == world.now
        assert world.fails(error) == [Setback("unreachable", reason)]
        assert world.fails() == []


def test_a_peer_that_never_was_reached_is_told_once_after_some_attempts() -> None:
    world = World()
    told = [setback for _ in range(10) for setback in world.fails()]
    assert told == [Setback("unreachable", "Connection refused")]
    assert world.dialler.failures == 10
    world.succeeds()
    world.loses()
    assert world.fails() == [Setback("unreachable", "Connection refused")], "a lost one is told at once"


def test_a_link_that_the_peer_made_meanwhile_is_no_news() -> None:
    world = World()
    world.succeeds()
    world.loses()
    world.wait()
    world.dialler.link_up(world.now)
    assert world.dialler.failed(TimeoutError(), world.now) == []
    assert world.dialler.due(False) == NEVER


def test_a_refusal_lasts_until_there_is_news() -> None:
    for lonely in (False, True):
        world = World(lonely)
        assert world.fails(refusal("run", "another run")) == [Setback("refused", "another run")]
        assert world.dialler.due(lonely) == world.now + REFUSED_PAUSE_SECONDS
        world.now += 10
        world.dialler.sign_of_life(contact(2, 7500), world.now)
        assert world.wait() == 0
        assert world.dialler.contact.addresses[0][1] == 7500
        assert world.dialler.failed(refusal("run", "another run"), world.now) == []  # the same reason is told once
        assert world.fails(refusal("run", "a third run")) == [Setback("refused", "a third run")]


def test_a_stranger_at_its_address_is_told_once_and_tried_again() -> None:
    world = World()
    world.succeeds()
    world.loses()
    stranger = Refusal("identity", "a stranger answers", None)
    assert world.fails(stranger) == [
        Setback("refused", "a stranger answers"),
        Setback("unreachable", "a stranger answers"),
    ]
    assert world.fails(stranger) == []
    assert world.dialler.due(False) < world.now + 1


def test_a_duplicate_is_no_refusal() -> None:
    world = World()
    assert world.fails(refusal("duplicate", "already linked")) == []
    world.succeeds()


def test_it_waits_when_links_keep_breaking() -> None:
    world = World()
    for _ in range(BRIEF_LINKS_IN_A_ROW):
        world.succeeds()
        world.loses(after=0.1)
        assert world.dialler.due(False) == world.now
    waits = []
    for _ in range(12):
        world.succeeds()
        world.loses(after=0.1)
        waits.append(world.dialler.due(False) - world.now)
    assert waits == sorted(waits)
    assert waits[0] > 0
    assert waits[-1] == LONGEST_PAUSE_SECONDS
    world.succeeds()
    world.loses()
    assert world.dialler.due(False) == world.now  # that one lasted


def test_a_sign_of_life_cuts_the_pause_short_but_not_again_and_again() -> None:
    world = World()
    pauses(world, 20)
    world.now += NEWS_PAUSE_SECONDS
    world.dialler.sign_of_life(contact(2), world.now)
    assert world.wait() == 0
    world.dialler.sign_of_life(contact(3), world.now)  # during the attempt: counts for the next
    assert world.dialler.due(False) == NEVER
    assert world.dialler.failed(REFUSED, world.now) == []
    tries = 0
    for _ in range(1000):
        world.now += 0.01
        world.dialler.sign_of_life(contact(3), world.now)
        if world.dialler.due(False) <= world.now:
            world.dialler.begin(world.now)
            world.dialler.failed(REFUSED, world.now)
            tries += 1
    assert 8 <= tries <= 12


def test_it_does_not_dial_while_linked() -> None:
    world = World()
    world.dialler.link_up(world.now)
    world.dialler.sign_of_life(contact(2), world.now)
    assert world.dialler.due(False) == world.dialler.due(True) == NEVER
    world.loses()
    assert world.dialler.due(False) == world.now
