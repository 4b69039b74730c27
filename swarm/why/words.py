"""How a story calls nodes, and how it says numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from swarm.events import join, short

MANY = 8
"""More than so many are not named one by one."""

_PEER = re.compile(r"\b12D3KooW\w{32,56}\b")


class Names:
    """Peers by the names of their logs; the end of the peer id for those whose log is not here."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """`names`: peer id -> name."""
        self._names = dict(names)

    def of(self, peer: str) -> str:
        return self._names.get(peer) or short(peer)

    def all(self, peers: Iterable[str], what: str = "nodes") -> str:
        """a, b and c; their number if they are many."""
        return some([self.of(peer) for peer in peers], what)

    def within(self, text: str) -> str:
        """The text with names for all peer ids in it, whole or shortened."""
        text = _PEER.sub(lambda found: self.of(found[0]), text)
        for peer, name in self._names.items():
            text = text.replace(short(peer), name)
        return text


def some(names: Sequence[str], what: str = "nodes") -> str:
    """a, b and c; their number if they are many."""
    return join(names) if len(names) <= MANY else f"{len(names)} {what}"


def span(values: Collection[float], digits: int = 1) -> str:
    """3.1 to 3.4 s."""
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return f"{low} s" if low == high else f"{low} to {high} s"


def each(seconds: Mapping[str, float]) -> str:
    """a after 3.1 s, b and c after 3.2 s; in short if they are many."""
    order = sorted(seconds, key=lambda name: round(seconds[name], 1))
    if len(seconds) > MANY:
        marks = {"first": order[0], "half way": order[len(order) // 2], "last": order[-1]}
        told = (f"{name} {place} after {seconds[name]:.1f} s" for place, name in marks.items())
        return f"{len(order)} nodes, {', '.join(told)}"
    together: dict[str, list[str]] = {}
    for name in order:
        together.setdefault(f"{seconds[name]:.1f} s", []).append(name)
    return ", ".join(f"{join(names)} after {when}" for when, names in together.items())
