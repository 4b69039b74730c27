"""A network of its own for each node of a simulation, so that nodes can be cut off from each other.

Every node lives in a network namespace; a bridge in one more joins them. A cut gives both sides a wrong hardware
address for each other: packets vanish without an error, as they do when a cable breaks somewhere on the way. The
namespaces belong to processes that die with the simulation: nothing stays behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from p2p.errors import SwarmError
from swarm.simulate.process import Child, stop_all

_START_SECONDS = 10.0
_NOBODY = "02:00:00:00:00:01"
"""A hardware address that no interface has."""
_SWITCH = "switch"


class NoNamespaces(SwarmError):
    """This process may not make network namespaces."""


class Network:
    """Hosts by name, each with an address; any two may be cut off from each other."""

    def __init__(self, folder: Path) -> None:
        """folder: for the output of the processes that hold the namespaces. Raises NoNamespaces."""
        missing = [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]
        if os.geteuid() != 0 or missing:
            why = f"{', '.join(missing)} missing" if missing else "not root"
            raise NoNamespaces(
                f"a cut takes network namespaces, which cannot be made here ({why}): run as root with iproute2 and "
                "util-linux installed, or leave the cut out of the fault script"
            )
        self._folder = folder
        self._holders: dict[str, Child] = {}
        self._addresses: dict[str, str] = {}
        self._cuts: set[frozenset[str]] = set()
        try:
            self._hold(_SWITCH)
            self._run(_SWITCH, "link", "add", "bridge", "type", "bridge")
            self._run(_SWITCH, "link", "set", "bridge", "up")
        # the holders must not stay behind, whatever went wrong
        except BaseException:
            self.close()
            raise

    def add(self, name: str) -> None:
        """Give a host its namespace; once."""
        number = len(self._addresses) + 1
        assert number < 1 << 16
        port, holder = f"port{number}", self._hold(name)
        self._run(_SWITCH, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        self._run(_SWITCH, "link", "set", port, "master", "bridge", "up")
        address = self._addresses[name] = f"10.83.{number >> 8}.{number & 255}"
        self._run(name, "address", "add", f"{address}/16", "dev", "eth0")
        for device in ("lo", "eth0"):
            self._run(name, "link", "set", device, "up")

    def __contains__(self, name: str) -> bool:
        return name in self._addresses

    def address(self, name: str) -> str:
        return self._addresses[name]

    def inside(self, name: str) -> list[str]:
        """What goes before a command that shall run on that host."""
        return ["nsenter", f"--net=/proc/{self._holders[name].pid}/ns/net"]

    def cut(self, left: Iterable[str], right: Iterable[str]) -> list[frozenset[str]]:
        """No packet passes between the two sides any more. Returns the pairs that are cut by this, for `heal`."""
        right = tuple(right)
        fresh = [pair for a in left for b in right if a != b and (pair := frozenset((a, b))) not in self._cuts]
        for pair in fresh:
            for here, there in _both_ways(pair):
                target = (self._addresses[there], "lladdr", _NOBODY, "dev", "eth0", "nud", "permanent")
                self._run(here, "neighbour", "replace", *target)
        self._cuts.update(fresh)
        return fresh

    def heal(self, pairs: Iterable[frozenset[str]] | None = None) -> None:
        """Let packets pass between these pairs, or all, again."""
        for pair in tuple(self._cuts if pairs is None else self._cuts.intersection(pairs)):
            for here, there in _both_ways(pair):
                self._run(here, "neighbour", "delete", self._addresses[there], "dev", "eth0")
            self._cuts.discard(pair)

    def close(self) -> None:
        stop_all(self._holders.values())

    def _hold(self, name: str) -> Child:
        """Start the process that a namespace lives in."""
        command = ["unshare", "--net", "sleep", "infinity"]
        child = self._holders[name] = Child(command, self._folder / f"{name}.log", os.environ)
        deadline = time.monotonic() + _START_SECONDS
        ours = os.readlink("/proc/self/ns/net")
        while child.status is None and os.readlink(f"/proc/{child.pid}/ns/net") == ours:
            if time.monotonic() > deadline:
                break
            time.sleep(0.005)
        if child.status is not None or os.readlink(f"/proc/{child.pid}/ns/net") == ours:
            raise NoNamespaces(f"no network namespace: {child.last_line()}; leave the cut out of the fault script")
        return child

    def _run(self, host: str, *arguments: str) -> None:
        result = subprocess.run(
            [*self.inside(host), "ip", *arguments], capture_output=True, text=True, check=False, timeout=_START_SECONDS
        )
        if result.returncode != 0:
            raise NoNamespaces(f"ip {' '.join(arguments)}: {result.stderr.strip()}")


def _both_ways(pair: frozenset[str]) -> tuple[tuple[str, str], tuple[str, str]]:
    left, right = sorted(pair)
    return (left, right), (right, left)
