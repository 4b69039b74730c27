"""Opens connections to a peer and sees them through the handshake."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

from p2p.channel.certificate import BadCertificate
from p2p.channel.connection import Connection
from p2p.channel.greeting import DiallerGreeting, OnEstablished
from p2p.channel.handshake import Refusal, Terms
from p2p.channel.meter import Meter
from p2p.channel.secure import secure_dialled
from p2p.contact import Contact

STAGGER_SECONDS = 0.3


@dataclass(frozen=True)
class DialSettings:
    terms: Terms
    context: ssl.SSLContext
    meter: Meter
    on_established: OnEstablished
    seconds: float
    """For one address: TCP, TLS and handshake."""


async def dial_one(settings: DialSettings, peer: str, address: tuple[str, int]) -> None:
    """Connect to `peer` at `address`; returns when `on_established` has been called.

    Raises Refusal, and OSError (TimeoutError among them) when nobody or somebody unintelligible is there.
    """
    greeting = DiallerGreeting(settings.terms, settings.on_established, peer)
    connection = Connection(greeting, settings.meter)
    try:
        async with asyncio.timeout(settings.seconds):
            await secure_dialled(connection, address, settings.context, settings.seconds + 1)
            await greeting.done
    except UnicodeError as error:  # a contact's host need not be one
        raise OSError(f"{address[0]!r} is no host name: {error}") from None
    except BadCertificate as error:
        raise Refusal("identity", f"whoever answers at its address proves nothing: {error}", None, peer) from None
    except Refusal:
        await connection.wait_closed()  # it reads why
        raise
    finally:
        if greeting.outcome is None:
            connection.abort("not linked")


async def dial_any(settings: DialSettings, contact: Contact) -> None:
    """Connect by whichever of the contact's addresses answers first; the next is tried as soon as one fails, or after
    STAGGER_SECONDS. Raises like `dial_one`, a refusal by the peer itself before all else.
    """
    running: set[asyncio.Task[None]] = set()
    waiting = list(contact.addresses)
    errors: list[Exception] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(dial_one(settings, contact.peer, waiting.pop(0))))
            pause = STAGGER_SECONDS if waiting else None
            done, running = await asyncio.wait(running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    return
                if not isinstance(error, Refusal | OSError):
                    raise error
                errors.append(error)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    raise min(errors, key=_rank)


def _rank(error: Exception) -> int:
    if not isinstance(error, Refusal):
        return 2
    return 1 if error.code == "identity" else 0
