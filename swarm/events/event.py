"""The base of all events, and how they write things for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Event(BaseModel):
    """Base of all events; readers ignore fields that they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    EVENT: ClassVar[str]

    def line(self) -> str:
        """For people; empty if there is nothing to say."""
        return ""


def short(peer: str) -> str:
    """The end of a peer id: the start is the same for all Ed25519 keys."""
    return peer[-6:]


def printable(text: str) -> str:
    """One line without control characters: peers' words must not move a person's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def names(peers: Sequence[str]) -> str:
    """Some peers, in short."""
    return join([short(peer) for peer in peers])


def join(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:]))) or "nobody"


def megabytes(count: float) -> str:
    return f"{count / 1e6:.2f} MB"
