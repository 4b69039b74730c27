"""The clock by which entries of the DHT expire. Its members must agree on it, and their wall clocks may be wrong.

Whoever joins takes over the time of the first member that it hears; who is first goes by its own wall clock. From then
on this clock runs by itself, through sleep too: a wall clock that is put right later does not move it.
"""

from __future__ import annotations

import time


def _running() -> float:
    """Seconds since this machine started: the same in all its processes, whatever its wall clock says."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


_offset = time.time() - _running()
_agreed = False


def dht_time() -> float:
    """Seconds since 1970, as the members of the DHT have it."""
    return _running() + _offset


def agree(ahead: float) -> bool:
    """A member's clock is `ahead` seconds before ours. True if we took it over: it was the first that we heard."""
    global _agreed
    if _agreed:
        return False
    _agreed = True
    set_offset(_offset + ahead)
    return True


def agreed() -> bool:
    """Whether this process goes by the time of a member that it heard."""
    return _agreed


def offset() -> float:
    """What another process of this machine needs to have the same DHT time."""
    return _offset


def set_offset(seconds: float) -> None:
    """Go by the DHT time of another process of this machine."""
    global _offset
    _offset = seconds
