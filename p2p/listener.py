"""How the parts of a node tell what an operator may want to know, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

Listener = Callable[[str, dict[str, object]], None]
"""(event, fields): an event's name and what belongs to it."""


def nobody(_event: str, _fields: dict[str, object]) -> None:
    """Listens to nothing."""
