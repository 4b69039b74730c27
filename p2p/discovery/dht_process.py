"""The process that runs the DHT: forked from the node, parent of p2pd, and gone as soon as either has no use for it.

hivemind.DHT is a process too, but outlives a killed parent, leaves p2pd and its sockets behind, and passes results
through torch shared memory. This one holds hivemind's DHTNode and answers frames on a socket pair:

    node -> DHT: (request id, method, arguments)      DHT -> node: ("reply", request id, ok, value or reason)
                                                                   ("event", text), ("ready", addresses)
                                                                   ("failed", error class, text)
                                                                   ("clock", offset of the DHT's clock)
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from p2p.discovery import dht_clock
from p2p.discovery.dht_member import DhtMember
from p2p.discovery.frame_link import FrameLink
from p2p.discovery.multiaddress import BootstrapAddress
from p2p.discovery.p2pd import Listen, P2pd
from p2p.errors import SwarmError
from p2p.identity import Identity
from p2p.parent_death import die_with_parent

FIRST_PAUSE_SECONDS = 1.0
REDIAL_SECONDS = 10.0
"""Between two looks at the bootstrap list, for as long as we live; they begin FIRST_PAUSE_SECONDS apart."""
PATIENCE_SECONDS = 30.0
"""How long a node that needs others waits for the first of its list: all may have been started at the same time."""
_LOCK_SECONDS = 5.0
_MAX_PAUSE_SECONDS = 30.0
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2}


class BootstrapUnreachable(SwarmError):
    """No address of the bootstrap list answers."""


class StateDirInUse(SwarmError):
    """Another node lives in this state directory."""


@dataclass(frozen=True)
class DhtSettings:
    identity: Identity
    """The daemon's key, not the node's: two hosts must never share a peer id."""
    bootstrap: tuple[BootstrapAddress, ...]
    listen: Listen
    directory: Path
    """For the lock and the daemon's socket; private to one node."""
    must_join: bool
    """Give up if no bootstrap peer answers; else be a DHT of one until one of them does."""


def fork_dht_process(settings: DhtSettings) -> tuple[int, socket.socket]:
    """Start the process; (process id, socket to it). It ends when that socket closes or this process dies."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    # a signal between the fork and the child's own handlers would run the parent's handlers in the child
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = forked()
        if pid == 0:
            ours.close()
            _child(settings, theirs, parent, mask)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    return pid, ours


def forked() -> int:
    """os.fork. The child never collects what its parent had: that may need threads which it does not have, and pages
    that are touched are copied."""
    enabled = gc.isenabled()
    gc.disable()  # libraries run code of theirs in the child before we do
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of any native thread, such as those a BLAS library starts at import; the child uses none
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            gc.freeze()
        return pid
    finally:
        if enabled:
            gc.enable()


def _child(settings: DhtSettings, sock: socket.socket, parent: int, mask: set[Any]) -> NoReturn:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS - {signal.SIGCHLD}:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.setsid()  # a terminal's Ctrl-C is for the node, which then closes us
        die_with_parent(parent, signal.SIGTERM)
        os.chdir(settings.directory)
        # the loop is not closed: that would wait for name look-ups that are still under way
        asyncio.SelectorEventLoop().run_until_complete(_DhtProcess(settings, parent).run(sock))
        status = 0
    # nothing may return into the parent's code, which this fork is a copy of
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


class _DhtProcess:
    """Keeps p2pd and the DHT member alive and answers the node."""

    def __init__(self, settings: DhtSettings, parent: int) -> None:
        self._settings = settings
        self._parent = parent
        self._listen = settings.listen
        self._daemon: P2pd | None = None
        self._member: DhtMember | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._link = FrameLink(self._on_frame, self._over.set)
        self._quiet_until = 0.0

    async def run(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        loop.add_signal_handler(signal.SIGTERM, self._on_sigterm)
        await loop.create_unix_connection(lambda: self._link, sock=sock)
        self._on_sigterm()  # the parent may have died before there was a handler
        life = asyncio.create_task(self._live())
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({life, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (life, over, *self._tasks):
                task.cancel()
            if self._daemon is not None:
                self._daemon.kill()
        if life.done() and not life.cancelled() and (error := life.exception()) is not None:
            raise error

    def _on_sigterm(self) -> None:
        # a SIGTERM to the whole group is for the node, which may want to say goodbye first and then closes us
        if os.getppid() != self._parent:
            self._over.set()

    async def _live(self) -> None:
        try:
            lock = await _lock(self._settings.directory)
            await self._start()
            assert self._member is not None
            await self._first_join(self._member)
            addresses = await self._member.addresses()
        except SwarmError as error:
            self._link.send(("failed", type(error).__name__, str(error)))
            await self._over.wait()
            return
        self._listen = replace(self._listen, port=int(addresses[0].split("/")[4]))  # keep it through restarts of p2pd
        self._link.send(("ready", addresses))
        try:
            await asyncio.gather(self._supervise(), self._redial())
        finally:
            os.close(lock)

    async def _start(self) -> None:
        self._daemon = await P2pd.start(self._settings.identity, self._listen, self._settings.directory)
        self._member = await DhtMember.create(self._tell, self._tell_clock)

    async def _first_join(self, member: DhtMember) -> None:
        bootstrap = self._settings.bootstrap
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = FIRST_PAUSE_SECONDS
        while len(unreachable := await member.join(bootstrap)) == len(bootstrap) > 0:
            if not self._settings.must_join:
                self._tell(f"no bootstrap peer answers yet: {_listed(unreachable)}; they are tried again and again")
                return
            if time.monotonic() + pause > deadline:
                raise BootstrapUnreachable(
                    f"no bootstrap peer answers: {_listed(unreachable)}; check the address, and that a node or "
                    "`swarm bootstrap` runs there"
                )
            self._tell(f"no bootstrap peer answers, trying again in {pause:.0f} s: {_listed(unreachable)}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, REDIAL_SECONDS)

    async def _supervise(self) -> None:
        """Restart p2pd, and with it the DHT member, whenever it ends."""
        pause = 1.0
        while True:
            assert self._daemon is not None
            started = time.monotonic()
            words = await self._daemon.ended()
            if time.monotonic() - started > _MAX_PAUSE_SECONDS:
                pause = 1.0
            self._member = None
            while self._member is None:
                self._tell(f"the libp2p daemon ended ({words}); starting it again in {pause:.0f} s")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)
                try:
                    await self._start()
                except (SwarmError, OSError) as error:
                    words = str(error)
            with suppress(OSError):  # _redial tries again and tells
                await self._member.join(self._settings.bootstrap)

    async def _redial(self) -> None:
        """For as long as we live: a bootstrap peer that comes back must find us, or the DHT stays split."""
        down: set[str] = set()
        pause = FIRST_PAUSE_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, REDIAL_SECONDS)
            if self._member is None:
                continue
            try:
                unreachable = await self._member.join(self._settings.bootstrap)
            except OSError as error:  # p2pd ends just now; _supervise sees to it
                self._tell(f"cannot redial the bootstrap peers: {error}")
                continue
            for text in sorted(set(unreachable) - down):
                self._tell(f"bootstrap peer {text} is unreachable: {unreachable[text]}")
            for text in sorted(down - set(unreachable)):
                self._tell(f"bootstrap peer {text} is reachable again")
            down = set(unreachable)

    def _on_frame(self, frame: tuple[Any, ...]) -> None:
        request, method, arguments = frame
        task = asyncio.create_task(self._answer(request, method, arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: int, method: str, arguments: Sequence[Any]) -> None:
        assert method in ("store", "lookup")
        try:
            if self._member is None:
                raise ConnectionError("the libp2p daemon is starting again")
            value = await getattr(self._member, method)(*arguments)
        # whatever hivemind raises is an answer too: the node logs it and goes on
        except Exception as error:  # noqa: BLE001
            self._link.send(("reply", request, False, f"{type(error).__name__}: {error}"[:500]))
        else:
            self._link.send(("reply", request, True, value))

    def _tell(self, text: str) -> None:
        self._link.send(("event", text))

    def _tell_clock(self) -> None:
        self._link.send(("clock", dht_clock.offset()))

    def _on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Errors in hivemind's background tasks, which a stranger's bytes can cause: one line in 10 s at most."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + 10.0
            self._tell(f"DHT: {context.get('exception') or context.get('message')!r}"[:500])


async def _lock(directory: Path) -> int:
    """Hold the directory for as long as this process lives; a predecessor may still be ending. Raises StateDirInUse."""
    descriptor = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise StateDirInUse(
                    f"{directory.parent} is in use by another node: give each node its own state_dir"
                ) from None
            await asyncio.sleep(0.05)
        else:
            return descriptor


def _listed(unreachable: dict[str, str]) -> str:
    return ", ".join(f"{text} ({reason})" for text, reason in unreachable.items())
