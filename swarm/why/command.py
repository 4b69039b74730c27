"""`swarm why`: reads event files, a running node's too, and prints the story of a round."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from p2p.errors import SwarmError
from swarm.events import Event, Round, parse, printable
from swarm.state_dir import EVENTS, find
from swarm.why.chapter import Log
from swarm.why.tell import tell

_ROUND = re.compile(rb'"round":(-?\d+)')
_COMMITTED = re.compile(rb'"event":"round","round":(\d+)')
_ALWAYS = (b'"event":"started"', b'"event":"synced"')


class NothingToTell(SwarmError):
    """No log tells of the round."""


def why(paths: Sequence[Path], round: int | None) -> None:
    """Print the story of `round`; None: of the newest that was committed. Raises NothingThere and NothingToTell."""
    files = find(paths, EVENTS)
    newest = max((newest_round(path) for path in files.values()), default=-1)
    chosen = newest if round is None else round
    lines = tell([read(name, path, chosen) for name, path in files.items()], chosen)
    if not lines:
        known = f"the newest they know is {newest}" if newest >= 0 else "they know of no commit yet"
        raise NothingToTell(f"no log tells of round {chosen}: {known}")
    sys.stdout.write("".join(printable(line) + "\n" for line in lines))


def newest_round(path: Path) -> int:
    """The last round that the node has applied; -1 if none."""
    with path.open("rb") as file:
        found = (_COMMITTED.search(line) for line in file)
        return max((int(match[1]) for match in found if match), default=-1)


def read(name: str, path: Path, round: int) -> Log:
    """What may matter for one round: a long log is not taken apart as a whole. The node's own name, if it tells it."""
    entries = list(_relevant(path, round))
    own = [event.node for _, event in entries if isinstance(event, Round)]
    return Log(own[-1] if own else name, entries)


def _relevant(path: Path, round: int) -> Iterator[tuple[float, Event]]:
    with path.open("rb") as file:
        for line in file:
            about = _ROUND.search(line)
            near = about is None or abs(int(about[1]) - round) <= 1 or any(kind in line for kind in _ALWAYS)
            if near and line.endswith(b"\n") and (entry := parse(line)) is not None:
                yield entry
