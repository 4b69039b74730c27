"""What newcomers and donors say to each other: questions for state, and their answers. See messages.py."""

from __future__ import annotations

from p2p.protocol.message import Message
from p2p.protocol.model import Count, Reason, Round


class GetManifest(Message):
    KIND = "get-manifest"
    request: Count
    round: Round


class Manifest(Message):
    """Payload: one 32-byte BLAKE3 digest a chunk."""

    KIND = "manifest"
    request: Count
    round: Round


class GetChunk(Message):
    KIND = "get-chunk"
    request: Count
    index: Count


class Chunk(Message):
    """Payload: the chunk's bytes as they were after `round` committed."""

    KIND = "chunk"
    request: Count
    round: Round
    index: Count


class GetMean(Message):
    KIND = "get-mean"
    request: Count
    round: Round
    start: Count
    stop: Count


class MeanSlice(Message):
    """Payload: the scales, then the codes of the committed mean for values [start, stop)."""

    KIND = "mean-slice"
    request: Count
    round: Round
    start: Count
    stop: Count


class NotAvailable(Message):
    """The answer to a request that the donor cannot serve (any more)."""

    KIND = "not-available"
    request: Count
    reason: Reason


class Withdraw(Message):
    """The sender needs no answer to this request any more; one that is under way is dropped when it comes."""

    KIND = "withdraw"
    request: Count
