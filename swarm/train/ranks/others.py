"""The other ranks of this node's local group, as rank 0 sees them: start, command, watch, end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from swarm.config import Config
from swarm.train.group import Store
from swarm.train.ranks.link import LinkEnded, RankLink
from swarm.train.ranks.messages import Command, Done, Failed, Setup
from swarm.train.ranks.pulse import Pulse
from swarm.train.ranks.shared import FlatVectors, LentVectors, lent
from swarm.train.ranks.watch import BEAT_SECONDS, Durations, Lost, Watch

READY_SECONDS = 300.0
"""Within which a rank has started, imported torch and read its data."""
BLAME_SECONDS = 2.0
"""After a failure in a collective, how long we look for a rank that caused it."""
CLOSE_SECONDS = 5.0


class RankLost(RuntimeError):
    """A rank of the local group is dead, frozen or stuck, so this node cannot train any more."""

    def __init__(self, lost: Lost) -> None:
        super().__init__(f"local {lost}" if lost.rank is not None else str(lost))
        self.lost = lost


class Rank:
    """One of them: its link, and its process (None if a launcher started it)."""

    def __init__(self, link: RankLink, pid: int, process: subprocess.Popen[bytes] | None = None) -> None:
        self.link, self.pid, self.process = link, pid, process
        self._failed: str | None = None

    def answer(self, seconds: float | None = None) -> None:
        """Wait for the answer to a command. Raises LinkEnded if there will be none, TimeoutError, ValueError."""
        message, _ = self.link.receive(object, seconds)
        if isinstance(message, Failed):
            self._failed = message.reason
            raise LinkEnded(message.reason)
        if not isinstance(message, Done):
            raise ValueError(f"no answer of a rank: {message!r:.200}")

    def end(self) -> str | None:
        """How it ended, in words; None while it lives."""
        if self._failed is None and not self.link.ended():
            return None
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                status = self.process.wait(1.0)  # it closes its sockets a moment before it is gone
                if status < 0:
                    return f"was killed by {signal.Signals(-status).name}"
        while self._failed is None:
            try:
                self.answer(0.1)
            except (LinkEnded, TimeoutError, ValueError):
                break
        return "has ended" if self._failed is None else f"failed: {self._failed}"

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill() if self.process is not None else os.kill(self.pid, signal.SIGKILL)


class OtherRanks:
    """Ranks 1 and up. Commands are given by the thread that trains, `watch` runs on the event loop.

    Without any (`OtherRanks()`), everything here does nothing.
    """

    def __init__(self, ranks: Sequence[Rank] = (), store: Callable[[], Store] | None = None) -> None:
        """`store` makes the one in which the process group meets."""
        self._ranks = tuple(ranks)
        self._make_store = store
        self._rendezvous: int | None = None
        """A descriptor that stays open with this process. The store is destroyed whenever the collector finds the last
        trace of the group, then opens it by its number, and in another file would look for its keys for ever."""
        self._pulse = Pulse.create()
        self._durations = Durations()
        self._kind: str | None = None
        self._looking = threading.Lock()
        self._lost: Lost | None = None

    @property
    def world(self) -> int:
        return 1 + len(self._ranks)

    @property
    def lost(self) -> Lost | None:
        """What has been lost; None while the group is whole, as far as we know."""
        return self._lost

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of ranks 1 and up."""
        return tuple(rank.pid for rank in self._ranks)

    @property
    def _numbered(self) -> Iterator[tuple[int, Rank]]:
        return enumerate(self._ranks, 1)

    @classmethod
    def start(cls, world: int) -> OtherRanks:
        """Start world - 1 processes; returns at once, they import torch meanwhile.

        Call it in a thread that lives as long as the node: with that thread they die.
        """
        if world == 1:
            return cls()
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # gloo would listen on the address of our host name
        rendezvous = os.memfd_create("swarm-rendezvous", os.MFD_CLOEXEC)
        others = cls([_start_rank() for _ in range(1, world)], lambda: store_in(rendezvous, world))
        others._rendezvous = rendezvous
        return others

    # --- commands, in the thread that trains ---

    def prepare(self, config: Config, count: int) -> FlatVectors:
        """Give every rank what it needs, the node's flat vectors too, and wait until all are ready. Raises RankLost."""
        if not self._ranks:
            return FlatVectors.private(count)
        vectors = FlatVectors.shared(count)
        descriptors = [self._pulse.memory.descriptor, *vectors.descriptors]
        if self._rendezvous is not None:
            descriptors.append(self._rendezvous)
        text = config.model_dump_json()
        for number, rank in self._numbered:
            try:
                rank.link.send(Setup(rank=number, world=self.world, config=text, values=count), descriptors)
            except OSError as error:
                raise self._blame(error) from error
        for number, rank in self._numbered:
            try:
                rank.answer(READY_SECONDS)
            except TimeoutError:
                raise RankLost(Lost(number, f"was not ready within {READY_SECONDS:.0f} s")) from None
            except (OSError, ValueError) as error:
                raise self._blame(error) from error
        vectors.close()
        return vectors

    def store(self) -> Store | None:
        """Where the process group meets; None for a group of one."""
        return self._make_store() if self._make_store else None

    @contextmanager
    def doing(self, command: Callable[[int], Command], descriptors: Sequence[int] = ()) -> Iterator[None]:
        """Send every rank its command, do our own part in the body, wait for all answers. Raises RankLost."""
        if not self._ranks:
            yield
            return
        commands = [command(number) for number, _ in self._numbered]
        began, kind = time.monotonic(), commands[0].kind
        self._kind = kind
        self._pulse.begin(0)
        try:
            for rank, order in zip(self._ranks, commands, strict=True):
                rank.link.send(order, descriptors)
            yield
            self._pulse.end(0)
            for rank in self._ranks:
                rank.answer()
        except (RuntimeError, OSError, ValueError) as error:  # of a collective, of a link
            raise self._blame(error) from error
        finally:
            self._kind = None
        self._durations.add(kind, time.monotonic() - began)

    @contextmanager
    def lent(
        self, names: Sequence[str], count: int, contents: Mapping[str, NDArray[np.float32]] | None = None
    ) -> Iterator[LentVectors]:
        """Flat vectors by name, zero or with these contents, that all ranks can reach."""
        if self._ranks:
            with lent(names, count, contents) as vectors:
                yield vectors
        else:
            yield LentVectors(dict(contents or {name: np.zeros(count, np.float32) for name in names}))

    def _blame(self, error: Exception) -> Exception:
        """What to raise for an error in the group: RankLost if a rank is to blame."""
        deadline = time.monotonic() + BLAME_SECONDS
        while (lost := self._find_dead()) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return RankLost(lost) if lost else error

    # --- from the event loop ---

    async def watch(self) -> Lost:
        """Return when a rank is dead, frozen or stuck; all are then killed, which also frees the thread that trains."""
        watch, looked = Watch(self.world, self._durations), time.monotonic()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if not self._ranks:
                continue
            now = time.monotonic()
            beats, progress = self._pulse.beats(self.world), self._pulse.progress(self.world)
            lost = watch.look(now - looked, beats, progress, self._kind)
            looked = now
            if any(rank.link.ended() for rank in self._ranks):
                lost = await asyncio.to_thread(self._find_dead)
            if lost:
                self._lost = self._lost or lost
                self.kill()
                return self._lost

    def _find_dead(self) -> Lost | None:
        """The rank whose end took the others along, if any has ended."""
        with self._looking:
            if self._lost is None:
                deadline = time.monotonic() + BLAME_SECONDS / 2
                found: dict[int, str] = {}
                # one that was killed makes its neighbours fail: give it time to be seen
                while not (killed := [n for n, how in found.items() if "killed" in how]):
                    found |= {n: how for n, rank in self._numbered if n not in found and (how := rank.end())}
                    if not found or time.monotonic() > deadline:
                        break
                    time.sleep(0.01)
                if found:
                    number = (killed or sorted(found))[0]
                    self._lost = Lost(number, found[number])
            return self._lost

    def kill(self) -> None:
        """SIGKILL all: a rank that is stopped, or waits in a collective, hears nothing else."""
        for rank in self._ranks:
            rank.kill()

    def close(self) -> None:
        """End all ranks; they go when their link is closed."""
        for rank in self._ranks:
            rank.link.close()
        deadline = time.monotonic() + CLOSE_SECONDS
        for rank in self._ranks:
            if rank.process is None:
                continue
            try:
                rank.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                rank.kill()
                rank.process.wait()
        self._pulse.memory.close()


def _start_rank() -> Rank:
    ours, theirs = RankLink.pair()
    root = str(Path(__file__).resolve().parents[3])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "swarm.train.ranks.child", str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
    return Rank(ours, process.pid, process)


def store_in(descriptor: int, world: int) -> Store:
    """A store in shared memory that all ranks were given: no port, and no file that could stay behind."""
    return dist.FileStore(  # type: ignore[attr-defined]
        f"/proc/self/fd/{descriptor}", world
    )
