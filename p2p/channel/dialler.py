"""When to dial one peer, and what to say of it. Pure: `now` is in seconds of any monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from p2p.channel.handshake import Refusal
from p2p.contact import Contact

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 60.0
NEWS_PAUSE_SECONDS = 1.0
"""Between an attempt and one for which there was a sign of life."""
LONELY_PAUSE_SECONDS = 5.0
"""The longest pause of a node without any link: it has nothing better to do than to look for the others."""
LASTING_LINK_SECONDS = 5.0
REFUSED_PAUSE_SECONDS = 600.0
"""Whoever refused us is asked again so late, or at the next sign that something may have changed."""
BRIEF_LINKS_IN_A_ROW = 3
"""So many links may end young before the redial waits."""
UNREACHED_FAILURES = 3
"""So many attempts at a peer that was never linked may fail before that is told."""
NEVER = float("inf")


@dataclass(frozen=True)
class Setback:
    """What an owner may want to know of an attempt that failed."""

    kind: Literal["refused", "unreachable"]
    """refused: it does not let us in, or is not who it should be. unreachable: the first redial after a loss failed, or
    so did several attempts at somebody we have never reached."""
    reason: str


class Dialler:
    """Dials `contact.peer` whenever there is no link to it, at once and then with growing pauses.

    One attempt runs at a time: `begin`, then `link_up` or `failed`.
    """

    def __init__(self, contact: Contact, now: float, random: Random) -> None:
        self.contact = contact
        self.linked = False
        self.failures = 0
        """Attempts that failed since the last link."""
        self._random = random
        self._due = self._lonely_due = now
        self._pause = 0.0
        self._tried = -NEVER
        self._dialling = False
        self._again = False
        self._lost = False
        self._reached = False
        """Whether there ever was a link."""
        self._up_since = now
        self._brief = 0
        self._told = ""

    def due(self, lonely: bool) -> float:
        """When the next attempt begins; `lonely` if this node has no link to anybody."""
        if self.linked or self._dialling:
            return NEVER
        return self._lonely_due if lonely else self._due

    def begin(self, now: float) -> None:
        """An attempt begins."""
        self._dialling, self._again, self._tried = True, False, now
        self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)

    def sign_of_life(self, contact: Contact, now: float) -> None:
        """A newer contact, or word of somebody who is linked with it: dial soon, even if it had refused us."""
        self.contact = contact
        self._again = self._dialling
        self._soon(now)

    def link_up(self, now: float) -> None:
        """There is a link, whoever dialled."""
        self.linked, self._reached, self._dialling, self._lost = True, True, False, False
        self.failures = 0
        self._up_since = now
        self._told = ""

    def link_down(self, now: float) -> None:
        """The link was lost. The next attempt comes now, unless links to this peer keep breaking."""
        lasted = now - self._up_since > LASTING_LINK_SECONDS
        self._brief = 0 if lasted else self._brief + 1
        if self._brief <= BRIEF_LINKS_IN_A_ROW:
            self._pause = 0.0
        self.linked, self._lost = False, True
        self._wait(self._pause, now)

    def failed(self, error: Refusal | OSError, now: float) -> list[Setback]:
        """The attempt ended without a link; what is news in that."""
        self._dialling = False
        if self.linked:  # it dialled us meanwhile
            return []
        self.failures += 1
        if isinstance(error, Refusal) and error.code not in ("duplicate", "identity"):
            self._due = self._lonely_due = now + REFUSED_PAUSE_SECONDS
        else:
            self._wait(self._pause * self._random.uniform(0.7, 1.0), now)
        if self._again:
            self._soon(now)
        return self._setbacks(error)

    def _soon(self, now: float) -> None:
        """Now, but not again and again: a liar may say a hundred times a second that somebody lives."""
        self._due = self._lonely_due = min(self._lonely_due, max(now, self._tried + NEWS_PAUSE_SECONDS))

    def _wait(self, pause: float, now: float) -> None:
        self._due, self._lonely_due = now + pause, now + min(pause, LONELY_PAUSE_SECONDS)

    def _setbacks(self, error: Refusal | OSError) -> list[Setback]:
        setbacks = []
        if isinstance(error, Refusal):
            if error.code == "duplicate":  # its side of another connection is up: ours is about to be
                return []
            if error.reason != self._told:
                self._told = error.reason
                setbacks.append(Setback("refused", error.reason))
            if error.code != "identity":  # it is there; a stranger at its address says nothing of it
                return setbacks
        if self._lost or (not self._reached and self.failures == UNREACHED_FAILURES):
            self._lost = False
            setbacks.append(Setback("unreachable", reason_of(error)))
        return setbacks


def reason_of(error: Refusal | OSError) -> str:
    """Why an attempt failed, in a few words."""
    if isinstance(error, Refusal):
        return error.reason
    if isinstance(error, TimeoutError):
        return "timed out"
    return error.strerror or str(error) or type(error).__name__
