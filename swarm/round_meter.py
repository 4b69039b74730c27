"""Time and bytes of a round, by what is read at its ends."""

from __future__ import annotations

import time
from typing import TypedDict

from swarm.parts import Parts


class RoundMeter:
    """Time and bytes since the last lap."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.restart()

    def restart(self) -> None:
        self._began, self._before = self._read()

    def lap(self) -> Lap:
        began, before = self._began, self._before
        self.restart()
        sent, received, transferred = (now - then for now, then in zip(self._before, before, strict=True))
        return Lap(
            round_seconds=self._began - began,
            bytes_sent=sent,
            bytes_received=received,
            transfer_bytes_sent=transferred,
        )

    def _read(self) -> tuple[float, tuple[int, int, int]]:
        wire = self._parts.mesh.wire_bytes()
        return time.monotonic(), (wire.sent, wire.received, self._parts.transfer.bytes_sent)


class Lap(TypedDict):
    """The fields of a Round event that RoundMeter fills."""

    round_seconds: float
    bytes_sent: int
    bytes_received: int
    transfer_bytes_sent: int
