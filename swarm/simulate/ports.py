"""Ports for processes that are killed and started again where they were.

A port that the system gave to one process it may give to any other's outgoing connection while that process is down.
These lie below the range that systems give from.
"""

from __future__ import annotations

import random
import socket

FIRST, LAST = 15_000, 32_000
"""Linux gives from 32768 on by itself, others from 49152 on."""


class Ports:
    """Each of its ports is handed out once, and was free then."""

    def __init__(self) -> None:
        self._left = random.sample(range(FIRST, LAST), LAST - FIRST)

    def take(self) -> int:
        """A TCP port that nobody on this machine listens at. Raises OSError if there is none left."""
        while self._left:
            port = self._left.pop()
            if _free(port):
                return port
        raise OSError(f"no free port from {FIRST} to {LAST}")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True
