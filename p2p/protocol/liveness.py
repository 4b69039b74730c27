"""Who is alive: links, ages of last words, and what the others say. Pure; time comes in as `now` in seconds.

A peer is *suspect* when its link is lost and a redial failed, or when it was silent for `silence` seconds. It is *dead*
when it is suspect here and no live peer says since then that it hears it. Only a plain "I hear it" counts: whoever
never had a link to the suspect, a newcomer say, knows nothing of it. Ages are differences on one clock;
no clock reading of another machine is ever compared with ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

HEARTBEAT_SECONDS = 2.0
SILENCE_SECONDS = 6.0
WITNESS_SECONDS = 3.0
"""How long a suspect's fate waits for the word of a peer whose last one, before the suspicion began, was that it hears
it. Who noticed the loss a moment before us has said so already, and is not waited for."""
LOOK_SECONDS = 0.2
"""How long it stays as it is who counts as alive, while nobody comes or goes."""


ROUNDING = 1e-6


@lru_cache(4096)
def tag(peer: str) -> int:
    """Four bytes that stand for a peer in heartbeats."""
    return crc32(peer.encode())


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a peer counts as alive, and what speaks against it: for people."""

    alive: bool
    reason: str = ""
    heard_by: tuple[str, ...] = ()
    """Those who say that they hear it, where we do not."""


@dataclass(slots=True)
class _Peer:
    heard: float
    linked: bool = False
    lost: str = ""
    unreachable_since: float | None = None
    unreachable: str = ""
    reported: float = 0.0
    hears: tuple[int, ...] = ()
    heard_tags: frozenset[int] | None = frozenset()
    """`hears` for many look-ups; None until there are any."""

    def says_it_hears(self, peer: str) -> bool:
        if self.heard_tags is None:
            self.heard_tags = frozenset(self.hears)
        return tag(peer) in self.heard_tags


class Liveness:
    """What this node knows of who is alive. `me` is always alive."""

    def __init__(self, me: str, silence: float = SILENCE_SECONDS) -> None:
        self.me = me
        self.silence = silence
        self._peers: dict[str, _Peer] = {}
        self._living: set[str] = set()
        self._suspects: list[tuple[str, float]] = []
        """(suspect, since when) as of the last look."""
        self._looked_at = float("-inf")
        self._looks_good_until = float("-inf")
        """Before this time nothing but news changes who counts as alive."""
        self._heard: tuple[list[str], tuple[int, ...]] = ([], ())
        """Whom `hears` found last, and its answer."""
        self._hears_since, self._hears_until = float("inf"), float("-inf")
        """Who was heard since then is in it, and before that time nobody falls out of it."""
        self._left: set[str] = set()
        """Those who said that they leave, and did not come back."""
        self._news = True
        """Whether `_living` is out of date, whatever the time."""

    def linked(self, peer: str, now: float) -> None:
        """A link came up: a fresh start, also for a peer that had left."""
        self._peers[peer] = _Peer(heard=now, linked=True)
        self._left.discard(peer)
        self._changed()

    def unlinked(self, peer: str, reason: str = "") -> None:
        """The link was lost; a redial is on its way, so nothing is concluded yet."""
        if peer in self._peers:
            self._peers[peer].linked, self._peers[peer].lost = False, reason
            self._changed()

    def unreachable(self, peer: str, now: float, reason: str = "") -> None:
        """The redial failed too. Of a stranger that says nothing: it never was a peer."""
        entry = self._peers.get(peer)
        if entry is not None and not entry.linked and entry.unreachable_since is None:
            entry.unreachable_since, entry.unreachable = now, reason
            self._news = True

    def heard(self, peer: str, hears: tuple[int, ...], now: float) -> None:
        """A heartbeat of `peer` came, with the tags of the peers that it hears."""
        entry = self._peers.get(peer)
        if entry is None:
            entry = self._peers[peer] = _Peer(heard=now)
        changed = hears != entry.hears
        first = bool(self._suspects) and any(entry.reported < since for _, since in self._suspects)
        if entry.heard < self._hears_since:
            self._hears_until = float("-inf")
        entry.heard = entry.reported = now
        if changed:
            entry.hears, entry.heard_tags = hears, None
        self._news |= peer not in self._living or first or (changed and bool(self._suspects))

    def paused(self, seconds: float) -> None:
        """We stood still ourselves for so long: what the others said meanwhile waits for us, so nobody was silent."""
        for entry in self._peers.values():
            entry.heard += seconds
        self._changed()

    def left(self, peer: str, now: float) -> None:
        """`peer` said that it leaves: dead by its own word."""
        self._peers.setdefault(peer, _Peer(heard=now))
        self._left.add(peer)
        self._changed()

    def forget(self, peer: str) -> None:
        """Drop what is known of a peer that is gone for good."""
        self._peers.pop(peer, None)
        self._left.discard(peer)
        self._changed()

    def _changed(self) -> None:
        self._news, self._hears_until = True, float("-inf")

    def suspect_since(self, peer: str, now: float) -> float | None:
        """When the suspicion of `peer` began; None if it is not suspect."""
        entry = self._peers.get(peer)
        if entry is None:
            return 0.0
        if entry.unreachable_since is not None:
            return entry.unreachable_since
        return entry.heard + self.silence if now - entry.heard > self.silence else None

    def alive(self, peer: str, now: float) -> bool:
        """Whether `peer` counts as alive: not suspect, or vouched for by somebody who is not suspect."""
        return peer == self.me or peer in self.living(now)

    def living(self, now: float) -> set[str]:
        """All peers that count as alive. It is asked after every message and hangs on time, so it is computed a few
        times a second, and whenever somebody comes or goes."""
        if self._news or not 0 <= now - self._looked_at < LOOK_SECONDS:
            if self._news or now < self._looked_at or now >= self._looks_good_until:
                living = self._look(now)
                if living != self._living:  # one object as long as nobody comes or goes
                    self._living = living
            self._looked_at, self._news = now, False
        return self._living

    def _look(self, now: float) -> set[str]:
        """A suspect lives if one who is not says since then that it hears it, or said so last and may say so again."""
        living, witnesses, left = set[str](), list[_Peer](), self._left
        suspects = self._suspects = []
        oldest = now
        for peer, entry in self._peers.items():
            if peer in left:
                continue
            heard, since = entry.heard, entry.unreachable_since
            if since is None and now - heard <= self.silence:
                living.add(peer)
                witnesses.append(entry)
                if heard < oldest:
                    oldest = heard
            else:
                suspects.append((peer, heard + self.silence if since is None else since))
        until = oldest + self.silence
        for peer, since in suspects:
            wait = now - since < WITNESS_SECONDS
            if wait:
                until = min(until, since + WITNESS_SECONDS)
            if any((w.reported >= since or (wait and w.linked)) and w.says_it_hears(peer) for w in witnesses):
                living.add(peer)
        self._looks_good_until = until - ROUNDING
        return living

    def vouched(self, peer: str) -> bool:
        """Whether anybody, maybe dead by now, said last that it hears `peer`, whom we may never have met."""
        return any(entry.says_it_hears(peer) for entry in self._peers.values())

    def doubtful(self, now: float) -> list[str]:
        """Peers of whom there is more to say than that they are alive."""
        self.living(now)
        left = [peer for peer in self._peers if peer in self._left] if self._left else []
        return left + [peer for peer, _ in self._suspects]

    def standing(self, peer: str, now: float) -> Standing:
        """`alive`, and what speaks against it."""
        entry, since = self._peers.get(peer), self.suspect_since(peer, now)
        if peer == self.me or (entry is not None and since is None and peer not in self._left):
            return Standing(True)
        if entry is None:
            return Standing(False, "it was never linked")
        if peer in self._left or since is None:
            return Standing(False, "it said that it leaves")
        reason = f"silent for {now - entry.heard:.1f} s"
        if entry.unreachable_since is not None:
            reason = f"link lost{_detail(entry.lost)}, redial failed{_detail(entry.unreachable)}"
        if not self.alive(peer, now):
            return Standing(False, f"{reason}, and nobody hears it")
        heard_by = (o for o, them in self._peers.items() if them.reported >= since and them.says_it_hears(peer))
        well = (o for o in heard_by if o not in self._left and self.suspect_since(o, now) is None)
        return Standing(True, reason, tuple(well))

    def hears(self, now: float) -> tuple[int, ...]:
        """Tags of the peers that we hear: what our heartbeat tells the others."""
        if self._hears_since <= now - self.silence / 2 < self._hears_until:
            return self._heard[1]
        recent = now - self.silence / 2
        left = self._left
        heard = [p for p, e in self._peers.items() if e.linked and e.heard >= recent and p not in left]
        if heard != self._heard[0]:
            self._heard = (heard, tuple(sorted(map(tag, heard))))
        self._hears_since = recent
        self._hears_until = min((self._peers[peer].heard for peer in heard), default=float("inf"))
        return self._heard[1]

    def silent(self, now: float) -> tuple[tuple[str, float], ...]:
        """Peers that we miss, with the age of their last word: for people to see."""
        recent = now - self.silence / 2
        missed = [
            (peer, max(0.0, now - entry.heard))
            for peer, entry in self._peers.items()
            if (entry.heard < recent or entry.unreachable_since is not None) and peer not in self._left
        ]
        return tuple(sorted(missed))

    def gone(self, seconds: float, now: float) -> tuple[str, ...]:
        """Peers without a link whose last word is older than that."""
        return tuple(p for p, entry in self._peers.items() if not entry.linked and now - entry.heard > seconds)

    def peers(self) -> tuple[str, ...]:
        """All peers that were ever linked and not forgotten."""
        return tuple(self._peers)


def _detail(reason: str) -> str:
    return f" ({reason})" if reason else ""
