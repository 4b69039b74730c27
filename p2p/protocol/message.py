"""What every message of two nodes is; they are in messages.py and transfer_messages.py."""

from __future__ import annotations

from typing import ClassVar

from p2p.protocol.model import Model


class Message(Model):
    """A message of its own on the wire; `KIND` is its one-word name there."""

    KIND: ClassVar[str]
