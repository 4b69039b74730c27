"""Keeps one peer linked: dials, redials with growing pauses, and says quickly when a lost peer cannot be reached."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from p2p.channel.handshake import Refusal
from p2p.contact import Contact

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 15.0
LASTING_LINK_SECONDS = 5.0
BRIEF_LINKS_IN_A_ROW = 3
"""So many links may end young before the redial waits."""


@dataclass(frozen=True)
class DiallerEvents:
    refused: Callable[[str, str], None]
    """(peer, reason): it does not let us in, or is not who it should be."""
    unreachable: Callable[[str, str], None]
    """(peer, reason): the first redial after a lost link failed."""


class Dialler:
    """Dials `contact.peer` whenever there is no link to it. `attempt` returns when a link is up, or raises."""

    def __init__(
        self, contact: Contact, attempt: Callable[[Contact], Awaitable[None]], events: DiallerEvents, linked: bool
    ) -> None:
        self.contact = contact
        self._attempt = attempt
        self._events = events
        self._unlinked = asyncio.Event()
        self._woken = asyncio.Event()
        self._pause = 0.0
        self._lost = False
        self._up_since = time.monotonic()
        self._brief = 0
        self._barred = False
        self._told = ""
        if not linked:
            self._unlinked.set()
        self._task = asyncio.create_task(self._run())

    def update(self, contact: Contact) -> None:
        """A newer contact: used from the next attempt on, which comes now if we had been refused."""
        if contact.sequence <= self.contact.sequence:
            return
        moved = contact.addresses != self.contact.addresses
        self.contact = contact
        if moved or self._barred:
            self._barred = False
            self._woken.set()

    def link_up(self) -> None:
        self._up_since = time.monotonic()
        self._lost = False
        self._told = ""
        self._unlinked.clear()
        self._woken.set()

    def link_down(self) -> None:
        """The next attempt comes now, unless links to this peer keep breaking."""
        lasted = time.monotonic() - self._up_since > LASTING_LINK_SECONDS
        self._brief = 0 if lasted else self._brief + 1
        if self._brief <= BRIEF_LINKS_IN_A_ROW:
            self._pause = 0.0
        self._lost = True
        self._unlinked.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._unlinked.wait()
            await self._sleep()
            if not self._unlinked.is_set():
                continue
            reason = await self._try()
            if reason is not None and self._unlinked.is_set() and self._lost:
                self._lost = False
                self._events.unreachable(self.contact.peer, reason)

    async def _sleep(self) -> None:
        """Pause before an attempt (none before the first); cut short by `update` and `link_up`."""
        self._woken.clear()
        pause = None if self._barred else self._pause * random.uniform(0.7, 1.0)
        if pause is None or pause > 0:
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                pass
        self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)

    async def _try(self) -> str | None:
        """One attempt; the reason why the peer cannot be reached, if that is what came out."""
        try:
            await self._attempt(self.contact)
        except Refusal as refusal:
            if refusal.code == "duplicate":  # its side of another connection is up: ours is about to be
                return None
            if refusal.reason != self._told:
                self._told = refusal.reason
                self._events.refused(self.contact.peer, refusal.reason)
            if refusal.code == "identity":  # a stranger at its address: the peer itself may come back
                return refusal.reason
            self._barred = True
        except TimeoutError:
            return "timed out"
        except OSError as error:
            return error.strerror or str(error) or type(error).__name__
        return None
