"""What a benchmark says: printed at once, kept for its log, with a verdict on each bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Report:
    """Prints, and keeps for the log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        print(text, flush=True)
        self.lines.append(text)

    def bar(self, what: str, found: float, limit: float, *, least: bool = False) -> None:
        good = found >= limit if least else found <= limit
        bound = f"{'>=' if least else '<='} {limit:.2f}"
        self(f"  {what}: {found:.3f} ({bound}: {'met' if good else 'MISSED'})")


@contextmanager
def logged(path: Path) -> Iterator[Callable[[str], None]]:
    """For runs of many minutes: what it is given is printed, and in that file, at once."""
    with path.open("w") as log:

        def say(text: str) -> None:
            print(text, end="", flush=True)
            log.write(text)
            log.flush()

        yield say
