"""Runs frames against targets, counts what came of them, and keeps what must not have happened."""

from __future__ import annotations

import gc
import os
import re
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

Target = Callable[[], str]
"""Makes one frame, hands it over, and says what came of it in a few words. Whatever it raises is a finding."""


@dataclass
class Tally:
    frames: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0

    def count(self, outcome: str) -> None:
        self.frames += 1
        self.outcomes[outcome] += 1


def storm(targets: Mapping[str, tuple[Target, int]], frames: int, tally: Tally, most_findings: int = 5) -> Tally:
    """About so many frames, shared out by the targets' weights, in turns: each target is deterministic by itself."""
    began = time.monotonic()
    total = sum(weight for _, weight in targets.values())
    for name, (target, weight) in targets.items():
        for number in range(max(1, frames * weight // total)):
            try:
                outcome = target()
            # anything that a target raises is what we are looking for
            except Exception:  # noqa: BLE001
                tally.count(f"{name}: RAISED")
                tally.findings.append(f"{name}, frame {number}:\n{traceback.format_exc()}")
                if len(tally.findings) >= most_findings:
                    return tally
            else:
                tally.count(f"{name}: {outcome}")
    tally.seconds += time.monotonic() - began
    return tally


_SHORTER = (
    (re.compile(r"\b[1-9A-HJ-NP-Za-km-z]{20,}"), "PEER"),
    (re.compile(r"\([-\d, ]+\)|[\[(]-?\d+, -?\d+[\])]|-?\b\d+(\.\d+)?(e[-+]?\d+)?\b"), "N"),
    (re.compile(r"\b([A-Z]\w+)[.:] ?.*(?:[Ii]nput|[Ee]xpected|should|[Ff]ield|[Vv]alue).*"), r"a malformed \1"),
    (re.compile(r"(not msgpack|kind|its own clock|says it is|that it is).*"), r"\1"),
    (re.compile(r"(closed by the peer|does not speak our protocol): .*", re.DOTALL), r"\1"),
)


def in_short(reason: str) -> str:
    """A reason without what differs from case to case."""
    for pattern, instead in _SHORTER:
        reason = pattern.sub(instead, reason)
    return reason[:90]


def resident_bytes(pid: int | None = None) -> int:
    """Memory of a process (this one) in RAM."""
    if pid is None:
        gc.collect()
    with open(f"/proc/{pid or 'self'}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


_SHARED = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)


def footprint(root: object, stop: tuple[object, ...] = ()) -> int:
    """Bytes of all that is reachable from an object, but for classes, code and what is reachable from `stop` only."""
    seen = {id(one) for one in stop}
    todo: deque[Any] = deque([root])
    total = 0
    while todo:
        one = todo.popleft()
        if id(one) in seen or isinstance(one, _SHARED):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        todo.extend(gc.get_referents(one))
    return total
