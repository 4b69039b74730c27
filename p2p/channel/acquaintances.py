"""Whom of its run a node knows, whom it dials when, and whom it tells of whom. Pure, as the dialler is.

Contacts come from the DHT, from the peers themselves and those they are linked with, and from an earlier life. A node
tells each peer of everybody it is linked with at the moment, and again when that grows. So two nodes that are linked
with the same third hear of each other, in whatever order the links came up; and whoever is told of is alive. Nobody
passes on what he has not seen himself: inventions go no further than one link.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from p2p.channel.dialler import NEVER, Dialler, Setback
from p2p.channel.handshake import Refusal
from p2p.channel.hello import MAX_CONTACTS_TOLD
from p2p.contact import MAX_KNOWN, Contact, ContactBook, SignedContact
from p2p.protocol.model import BadMessage

TELL_SECONDS = 0.25
"""News are collected for so long: at a start everybody links with everybody within moments."""
FORGET_SECONDS = 24 * 3600.0
"""A peer that was linked once is dialled for so long after its last sign of life."""
UNMET_TRIES = 8
"""Dials for a peer that never was linked."""
MAX_UNMET = 256
"""Peers never linked that one source may tell of: what a liar can make a node remember and dial."""
TOLD_PER_SECOND = 64.0
"""Contacts that a peer may tell in the long run; MAX_KNOWN at once."""


@dataclass(frozen=True)
class Dial:
    """Dial this peer now; then comes `link_up` or `failed`."""

    contact: Contact


@dataclass(frozen=True)
class Tell:
    """Send these contacts to a linked peer."""

    peer: str
    contacts: tuple[SignedContact, ...]


@dataclass
class _Known:
    """A peer worth dialling."""

    dialler: Dialler
    alive_at: float
    """Its last sign of life."""
    source: str | None
    """Who told of it; None once it was linked, or if we were asked to keep it linked."""


@dataclass
class _Linked:
    """A peer with a link."""

    member: bool
    """Observers are told nothing, and not believed."""
    tell_at: float
    heard_at: float
    told: set[str] = field(default_factory=set)
    allowance: float = MAX_KNOWN


class Acquaintances:
    """The peers that a node knows, and its links as far as dialling and telling go."""

    def __init__(self, me: str, fingerprint: bytes, random: Random, dials: bool = True) -> None:
        """`dials`: whether to dial whoever is told of, or only those that `dial` names."""
        self._me = me
        self._dials = dials
        self._random = random
        self._book = ContactBook(fingerprint)
        self._known: dict[str, _Known] = {}
        self._links: dict[str, _Linked] = {}

    # --- inputs

    def introduce_self(self, signed: SignedContact, now: float) -> None:
        """Our own contact, for every peer; again whenever it is signed anew."""
        if self._note(signed):
            self._news(self._me, now)

    def hear(self, signed: SignedContact, source: str, now: float) -> None:
        """`source` (the DHT, or a peer) has lately seen this peer. Raises BadMessage for a forged contact."""
        peer = signed.contact.peer
        if peer == self._me or not signed.contact.addresses:
            return
        if peer not in self._known and peer not in self._links and self._unmet(source) >= MAX_UNMET:
            return
        moved = self._note(signed)
        contact = self._book.get(peer)
        if contact is None:
            return  # it is of another run, or one too many
        if peer in self._known:
            self._seen_alive(peer, contact, now)
        elif self._dials:
            self._keep(contact, source, now)
        if moved and peer in self._links:
            self._news(peer, now)

    def told(self, peer: str, contacts: Iterable[SignedContact], now: float) -> None:
        """A linked peer tells of whom it is linked with. Raises BadMessage when it lies or does not stop."""
        link = self._links[peer]
        if not link.member:
            raise BadMessage("an observer sends nothing")
        link.allowance = min(link.allowance + TOLD_PER_SECOND * (now - link.heard_at), MAX_KNOWN)
        link.heard_at = now
        for signed in contacts:
            link.allowance -= 1
            if link.allowance < 0:
                raise BadMessage("tells of too many peers")
            self.hear(signed, peer, now)

    def remember(self, signed: SignedContact, now: float) -> None:
        """A peer that was met in an earlier life. Raises BadMessage for a forged contact."""
        if signed.contact.peer != self._me and signed.contact.addresses and self._note(signed):
            self._keep(signed.contact, None, now)

    def dial(self, contact: Contact, now: float) -> None:
        """Keep that peer linked until `forget`, even if it did not sign this."""
        known = self._known.get(contact.peer)
        if known is None:
            self._keep(contact, None, now)
        elif contact.sequence > known.dialler.contact.sequence:
            self._seen_alive(contact.peer, contact, now)

    def forget(self, peer: str) -> None:
        """Dial that peer no more, and drop its contact."""
        self._book.discard(peer)
        self._known.pop(peer, None)

    def link_up(self, peer: str, member: bool, now: float) -> None:
        """There is a link to that peer, whoever dialled; `member`: it is no observer."""
        self._links[peer] = _Linked(member, tell_at=now if member else NEVER, heard_at=now)
        known = self._known.get(peer)
        if known is not None:
            known.source, known.alive_at = None, now
            known.dialler.link_up(now)
        self._news(peer, now)

    def link_down(self, peer: str, now: float) -> None:
        """It is no more."""
        del self._links[peer]
        known = self._known.get(peer)
        if known is not None:
            known.alive_at = now
            known.dialler.link_down(now)

    def failed(self, peer: str, error: Refusal | OSError, now: float) -> list[Setback]:
        """The dial of that peer came to nothing; what its owner may want to know."""
        known = self._known.get(peer)
        if known is None:
            return []
        setbacks = known.dialler.failed(error, now)
        vain = known.source is not None and known.dialler.failures >= UNMET_TRIES
        # without any link the fault may be ours, and they are all we have
        gone = self._book.get(peer) is not None and now - known.alive_at > FORGET_SECONDS and not self._lonely()
        if vain or gone:
            self.forget(peer)
        return setbacks

    # --- outputs

    def step(self, now: float) -> list[Dial | Tell]:
        """What is due."""
        effects: list[Dial | Tell] = []
        for peer, link in self._links.items():
            if link.tell_at <= now:
                link.tell_at = NEVER
                effects += self._tell(peer, link)
        lonely = self._lonely()
        for known in self._known.values():
            if known.dialler.due(lonely) <= now:
                known.dialler.begin(now)
                effects.append(Dial(known.dialler.contact))
        return effects

    def wake_at(self) -> float:
        """When `step` has something to do, if nothing happens before."""
        lonely = self._lonely()
        dials = (known.dialler.due(lonely) for known in self._known.values())
        return min((*dials, *(link.tell_at for link in self._links.values())), default=NEVER)

    def contacts(self) -> list[SignedContact]:
        """The newest contact of everybody, ours too."""
        return self._book.all()

    def met(self) -> list[SignedContact]:
        """Whom to `remember` in the next life: peers that were linked."""
        known = ((signed, self._known.get(signed.contact.peer)) for signed in self._book.all())
        return [signed for signed, peer in known if peer is not None and peer.source is None]

    # --- details

    def _lonely(self) -> bool:
        return not any(link.member for link in self._links.values())

    def _note(self, signed: SignedContact) -> bool:
        """Take down a newer contact; whether it leads to another place than before."""
        before = self._book.get(signed.contact.peer)
        return self._book.add(signed) and (before is None or before.addresses != signed.contact.addresses)

    def _keep(self, contact: Contact, source: str | None, now: float) -> None:
        known = self._known[contact.peer] = _Known(Dialler(contact, now, self._random), now, source)
        if contact.peer in self._links:
            known.source = None
            known.dialler.link_up(now)

    def _seen_alive(self, peer: str, contact: Contact, now: float) -> None:
        self._known[peer].alive_at = now
        self._known[peer].dialler.sign_of_life(contact, now)

    def _unmet(self, source: str) -> int:
        return sum(known.source == source for known in self._known.values())

    def _news(self, peer: str, now: float) -> None:
        """Everybody has to hear of that peer (again)."""
        for other in self._links.values():
            if other.member:
                other.told.discard(peer)
                other.tell_at = min(other.tell_at, now + TELL_SECONDS)

    def _tell(self, peer: str, link: _Linked) -> list[Tell]:
        untold = [other for other in (self._me, *self._links) if other != peer and other not in link.told]
        contacts = [signed for other in untold if (signed := self._book.signed(other)) is not None]
        link.told.update(signed.contact.peer for signed in contacts)
        parts = range(0, len(contacts), MAX_CONTACTS_TOLD)
        return [Tell(peer, tuple(contacts[start : start + MAX_CONTACTS_TOLD])) for start in parts]
