"""Wall clocks that are wrong: a node under libfaketime, which is preloaded into it and all it starts.

What Python reads is shifted. Monotonic clocks are not, nor the daemon p2pd, which does not use the C library for time.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from p2p.errors import SwarmError

_LIBRARY = "libfaketime.so.1"
_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib")


class NoFakeClock(SwarmError):
    """Nothing here can show a process another time."""


def skewed(seconds: float) -> dict[str, str]:
    """Environment variables that shift a process's wall clock. Raises NoFakeClock."""
    if not seconds:
        return {}
    library = next(_libraries(), None)
    if library is None:
        raise NoFakeClock(
            "a wrong clock takes libfaketime, which is not installed: apt-get install libfaketime, or pip install "
            "'swarm-node[faults]', or leave clocks out of the fault script"
        )
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{seconds:+.3f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
    }


def _libraries() -> Iterator[Path]:
    """Of the Python package, which builds its own, or of the system."""
    spec = find_spec("libfaketime")
    places = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    for place in places:
        yield from place.glob(f"vendor/**/{_LIBRARY}")
    for folder in _FOLDERS:
        yield from Path(folder).glob(f"faketime/{_LIBRARY}")
        yield from Path(folder).glob(f"*/faketime/{_LIBRARY}")
