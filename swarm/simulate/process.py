"""Child processes that cannot outlive the simulation, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from p2p.parent_death import die_with_parent

GRACE_SECONDS = 10.0
"""A node has this long to leave after SIGTERM."""
GROUP_SECONDS = 5.0
"""What a dead node started has this long to notice it."""


class Child:
    """One process in a session of its own: Ctrl-C in the terminal reaches the simulation only, which then stops it.

    Its kernel sends it SIGTERM when the simulation dies, even by SIGKILL. Start children from the main thread: the
    signal comes when the thread that started them ends.
    """

    def __init__(self, command: Sequence[str], output: Path, environment: Mapping[str, str]) -> None:
        """output: file for its standard output and error, appended to."""
        self.output = output
        parent = os.getpid()
        with output.open("ab") as file:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
            )
        self.stopped_at: float | None = None
        self._frozen: list[int] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self.process.poll()

    def terminate(self) -> None:
        """Ask it to leave."""
        self.stopped_at = time.monotonic()
        self.thaw()
        if self.status is None:
            self.process.terminate()

    def kill(self) -> None:
        """SIGKILL to it alone: what it started has to notice by itself."""
        self.stopped_at = time.monotonic()
        if self.status is None:
            self.process.kill()
        self.thaw()

    @property
    def frozen(self) -> bool:
        return bool(self._frozen)

    def freeze(self) -> None:
        """SIGSTOP to it and to all that it started, as if its machine slept; until `thaw`, `terminate` or `kill`."""
        assert not self._frozen
        if self.status is None:
            _stop_tree(self.pid, self._frozen)

    def thaw(self) -> None:
        """SIGCONT to all that `freeze` stopped."""
        for pid in reversed(self._frozen):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen.clear()

    def lines(self) -> list[str]:
        return self.output.read_text(errors="replace").splitlines()

    def last_line(self) -> str:
        """The last thing it said, for an error message."""
        return next((line.strip() for line in reversed(self.lines()) if line.strip()), "it said nothing")

    def group_lives(self) -> bool:
        """Whether anything of its session is left (it, or what it started and did not clean up)."""
        return self.pid in living_groups()

    def kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def stop_all(children: Iterable[Child], grace: float = GRACE_SECONDS) -> list[Child]:
    """SIGTERM to all, SIGKILL to those that are there after `grace` seconds, and the same for what they left behind.

    Returns the children that did not go, or left something behind, when asked politely.
    """
    children = list(children)
    for child in children:
        child.terminate()
    _wait(children, grace, lambda child: child.status is None)
    stubborn = [child for child in children if child.status is None]
    for child in stubborn:
        child.kill_group()
        child.process.wait()
    _wait(children, GROUP_SECONDS, Child.group_lives)
    littering = [child for child in children if child.group_lives()]
    for child in littering:
        child.kill_group()
    return stubborn + [child for child in littering if child not in stubborn]


def living_groups() -> set[int]:
    """Process groups that have a living process. A zombie is dead: in a container nobody may come to reap it."""
    return {process.group for process in _processes() if process.state not in "ZX"}


def processes_of(folder: Path) -> dict[int, str]:
    """Command lines, by process id, of the living processes that have to do with a folder: their arguments, their
    environment or the directory they work in name it. Ourselves excepted."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended while we looked
            arguments = (path / "cmdline").read_bytes()
            told = arguments + (path / "environ").read_bytes() + os.readlink(path / "cwd").encode()
            if str(folder).encode() in told and int(path.name) != os.getpid():
                found[int(path.name)] = arguments.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def children_of(pid: int) -> list[int]:
    """Processes that it started and that are there, zombies too."""
    return [process.pid for process in _processes() if process.parent == pid]


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    state: str
    parent: int
    group: int


def _processes() -> Iterator[_Process]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended while we looked
            state, parent, group = path.read_text().rpartition(")")[2].split()[:3]
            yield _Process(int(path.parent.name), state, int(parent), int(group))


def _stop_tree(pid: int, stopped: list[int]) -> None:
    """SIGSTOP to a process, then to its children: a stopped parent starts no more of them."""
    try:
        os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError:
        return
    stopped.append(pid)
    for child in children_of(pid):
        _stop_tree(child, stopped)


def _wait(children: Sequence[Child], seconds: float, busy: Callable[[Child], bool]) -> None:
    deadline = time.monotonic() + seconds
    while any(busy(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
