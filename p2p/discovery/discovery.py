"""Find the peers of a run through hivemind's DHT: announce our own signed contact, look up the others'."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from p2p.contact import SignedContact
from p2p.discovery import dht_clock
from p2p.discovery.contact_entry import MAX_CONTACTS, expiration_of, key_of
from p2p.discovery.dht_clock import dht_time
from p2p.discovery.dht_process import BootstrapUnreachable, DhtSettings, StateDirInUse, fork_dht_process
from p2p.discovery.frame_link import FrameLink, new_unpacker
from p2p.discovery.multiaddress import parse_bootstrap_peers
from p2p.discovery.p2pd import SOCKET_NAME, DhtHostError, DhtPortInUse, Listen, P2pdFailed
from p2p.errors import SwarmError
from p2p.identity import Identity
from p2p.protocol.model import BadMessage

ANNOUNCE_SECONDS = 20.0
LOOKUP_SECONDS = 10.0
EAGER_SECONDS = 1.0
"""Pause between lookups while starting or alone, and before an announcement that failed is tried again."""
STARTING_SECONDS = 30.0
_CALL_SECONDS = 30.0
_CLOSE_SECONDS = 3.0


class DiscoveryFailed(SwarmError):
    """The DHT did not do what was asked; try again later."""


class DiscoveryLost(DiscoveryFailed):
    """The DHT process is gone."""


_START_ERRORS: dict[str, type[SwarmError]] = {
    error.__name__: error for error in (BootstrapUnreachable, StateDirInUse, DhtHostError, DhtPortInUse, P2pdFailed)
}


class Discovery:
    """This node's DHT membership. The DHT itself runs in a process of its own, so a slow DHT never blocks a loop.

    `start` forks: call it first thing, in the main thread, before threads and big allocations. The async methods work
    from one event loop (asyncio or uvloop), the one that first calls them.
    """

    def __init__(
        self, pid: int, sock: socket.socket, directory: Path, p2pd_id: str, on_event: Callable[[str], None]
    ) -> None:
        self.p2pd_id = p2pd_id
        """Peer id of this node's DHT daemon, for its Contact."""
        self._pid: int | None = pid
        self._socket = sock
        self._directory = directory
        self._on_event = on_event
        self._addresses: list[str] = []
        self._unpacker = new_unpacker()
        self._link: FrameLink | None = None
        self._connecting = asyncio.Lock()
        self._ended = asyncio.Event()
        self._last_request = 0
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._known: dict[str, tuple[bytes, SignedContact]] = {}
        self._ignored: dict[str, bytes] = {}

    @classmethod
    def start(
        cls,
        bootstrap_peers: Sequence[str],
        host: str,
        port: int,
        state_dir: Path | str,
        *,
        must_join: bool = True,
        announce_host: str | None = None,
        on_event: Callable[[str], None] = lambda _text: None,
    ) -> Discovery:
        """Start the DHT process and join the DHT; blocks until that is done.

        bootstrap_peers: multiaddresses; empty if this node is the first. must_join: raise BootstrapUnreachable if none
        of them has answered within PATIENCE_SECONDS (each try is told to `on_event`); else go on without them after
        one try. They are dialled again and again in either case, for as long as this node lives. port: 0 for any.
        announce_host: IP address or name under which others reach this host, if not the ones it knows itself.
        on_event: gets lines for a person, from `start` and later on the event loop.
        Raises BadMultiaddr, BootstrapUnreachable, DhtPortInUse, DhtHostError, StateDirInUse, KeyFileError, P2pdFailed.
        """
        bootstrap = parse_bootstrap_peers(bootstrap_peers)
        directory = Path(state_dir).expanduser().absolute() / "dht"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)  # who reaches the daemon's socket controls the daemon
        except OSError as error:
            raise DiscoveryFailed(f"cannot use {directory}: {error.strerror}; choose another state_dir") from None
        identity = Identity.load_or_create(directory.parent / "p2pd.key")
        bootstrap = tuple(address for address in bootstrap if address.p2pd != identity.peer_id)
        settings = DhtSettings(identity, bootstrap, Listen(host, port, announce_host), directory, must_join)
        discovery = cls(*fork_dht_process(settings), directory, identity.peer_id, on_event)
        try:
            discovery._wait_until_ready()
        # Ctrl-C too must not leave the process behind
        except BaseException:
            discovery.close()
            raise
        return discovery

    def addresses(self) -> list[str]:
        """Full multiaddresses for others' bootstrap lists, best first."""
        return list(self._addresses)

    async def announce(self, signed: SignedContact) -> None:
        """Store our contact for 60 s from its sequence number (`next_sequence`). Raises DiscoveryFailed."""
        contact = signed.contact
        expiration = expiration_of(contact.sequence)
        if expiration <= dht_time():
            raise DiscoveryFailed("the contact is too old to announce: sign it anew, with next_sequence()")
        if not await self._call("store", key_of(contact.run), contact.peer, signed.to_bytes(), expiration):
            raise DiscoveryFailed(
                "the DHT refused this node's contact: does another node use its key, or its clock jump?"
            )

    async def find(self, run: str) -> list[SignedContact]:
        """The contacts under a run's name, our own too: genuine, the newest of each peer we ever saw.

        Their fingerprints may differ from ours. Raises DiscoveryFailed.
        """
        now = dht_time()
        self._known = {
            peer: known for peer, known in self._known.items() if expiration_of(known[1].contact.sequence) > now
        }
        found = []
        for subkey, value in await self._call("lookup", key_of(run)):
            signed = self._check(subkey, value, run)
            if signed is not None:
                found.append(signed)
        return found[:MAX_CONTACTS]

    async def run(self, contact: Callable[[], SignedContact], found: Callable[[SignedContact], None]) -> None:
        """Announce and look up for ever; failures go to `on_event`. Returns only if the DHT process is gone.

        contact: makes our contact as of now, with a fresh `next_sequence`. found: called on the loop with every
        contact of another peer that is new or newer than the last (a live peer's comes about every 20 s).
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._announce_for_ever(contact))
                group.create_task(self._look_for_ever(contact().contact.peer, contact().contact.run, found))
        except* DiscoveryLost:
            if self._pid is not None:  # not by close()
                self._on_event("the DHT process has ended; this node keeps the peers that it knows")

    async def serve(self) -> None:
        """Pass the DHT's events on until `close` or the end of the DHT process: all that a bootstrap node does."""
        await self._connected()
        await self._ended.wait()

    async def _announce_for_ever(self, contact: Callable[[], SignedContact]) -> None:
        while True:
            try:
                await self.announce(contact())
            except DiscoveryLost:
                raise
            except DiscoveryFailed as error:
                self._on_event(f"could not announce this node: {error}")
                await asyncio.sleep(EAGER_SECONDS)
            else:
                await asyncio.sleep(ANNOUNCE_SECONDS)

    async def _look_for_ever(self, me: str, run: str, found: Callable[[SignedContact], None]) -> None:
        started = time.monotonic()
        told: dict[str, int] = {}
        while True:
            try:
                contacts = [signed for signed in await self.find(run) if signed.contact.peer != me]
            except DiscoveryLost:
                raise
            except DiscoveryFailed as error:
                self._on_event(f"could not look up peers: {error}")
                contacts = []
            for signed in contacts:
                if told.get(signed.contact.peer, -1) < signed.contact.sequence:
                    found(signed)
            told = {signed.contact.peer: signed.contact.sequence for signed in contacts}
            eager = not contacts or time.monotonic() - started < STARTING_SECONDS
            await asyncio.sleep(EAGER_SECONDS if eager else LOOKUP_SECONDS)

    def close(self) -> None:
        """End the DHT process and leave nothing behind; takes milliseconds. Safe to call twice.

        Call it in the thread of the event loop that the async methods ran in, at best before that loop ends (after
        it, an unclosed transport is warned of under -W).
        """
        if self._pid is None:
            return
        with suppress(OSError):  # not connected: the process has already gone
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._link is not None:
            self._link.abort()
        else:
            self._socket.close()
        deadline = time.monotonic() + _CLOSE_SECONDS
        while not _reaped(self._pid):
            if time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
                deadline = float("inf")
            time.sleep(0.002)
        self._pid = None
        (self._directory / SOCKET_NAME).unlink(missing_ok=True)

    def _wait_until_ready(self) -> None:
        while not self._addresses:
            data = self._socket.recv(1 << 16)
            if not data:
                raise P2pdFailed("the DHT process ended at its start")
            self._unpacker.feed(data)
            for frame in self._unpacker:
                self._on_frame(frame)
                if self._addresses:
                    break

    async def _call(self, method: str, *arguments: object) -> Any:
        if self._pid is None or self._ended.is_set():
            raise DiscoveryLost("the DHT process has ended")
        link = await self._connected()
        self._last_request = request = self._last_request + 1
        reply = self._pending[request] = asyncio.get_running_loop().create_future()
        try:
            if not link.send((request, method, arguments)):
                raise DiscoveryFailed("the DHT process does not read its requests")
            async with asyncio.timeout(_CALL_SECONDS):
                return await reply
        except TimeoutError:
            raise DiscoveryFailed(f"no answer from the DHT within {_CALL_SECONDS:.0f} s") from None
        finally:
            del self._pending[request]

    async def _connected(self) -> FrameLink:
        async with self._connecting:
            if self._link is None:
                link = FrameLink(self._on_frame, self._on_lost, self._unpacker)
                self._socket.setblocking(False)
                await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=self._socket)
                self._link = link
            return self._link

    def _on_frame(self, frame: tuple[Any, ...]) -> None:
        match frame:
            case ("reply", request, ok, value):
                reply = self._pending.get(request)
                if reply is not None and not reply.done():
                    if ok:
                        reply.set_result(value)
                    else:
                        reply.set_exception(DiscoveryFailed(value))
            case ("event", text):
                self._on_event(text)
            case ("clock", offset):
                dht_clock.set_offset(offset)
            case ("ready", addresses):
                self._addresses = list(addresses)
            case ("failed", kind, text):
                raise _START_ERRORS[kind](text)
            case _:
                raise AssertionError(f"unknown frame {frame[0]!r} from the DHT process")

    def _on_lost(self) -> None:
        self._ended.set()
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(DiscoveryLost("the DHT process has ended"))

    def _check(self, subkey: object, value: object, run: str) -> SignedContact | None:
        """The contact if its owner signed it, for this run, under its own subkey, and we know no newer one."""
        if not isinstance(subkey, str) or not isinstance(value, bytes):
            return None
        data, known = self._known.get(subkey, (b"", None))
        if data == value and known is not None:
            return known if known.contact.run == run else None
        try:
            signed = SignedContact.from_bytes(value)
        except BadMessage as error:
            self._ignore(subkey, value, str(error))
            return None
        contact = signed.contact
        if contact.peer != subkey or contact.run != run:
            self._ignore(subkey, value, "it belongs to another peer or run")
            return None
        if known is not None and known.contact.sequence > contact.sequence:
            return None
        self._known[subkey] = (value, signed)
        return signed

    def _ignore(self, subkey: str, value: bytes, reason: str) -> None:
        """Say so once: every lookup brings the same entries again."""
        if self._ignored.get(subkey) != value and len(self._ignored) < MAX_CONTACTS:
            self._ignored[subkey] = value
            self._on_event(f"an entry of the DHT under the name {subkey[-12:]!r} is ignored: {reason}")


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # somebody else waited for it
        return True
