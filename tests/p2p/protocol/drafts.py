"""Drafts of rounds for tests of the butterfly."""

from __future__ import annotations

from collections.abc import Sequence

from p2p.protocol.butterfly import plan_spans
from p2p.protocol.messages import Ballot, Ledger, Record, Seat
from tests.p2p.protocol.records import FINGERPRINT, peer


def draft_of(
    weights: Sequence[int],
    count: int,
    block: int,
    *,
    members: Sequence[str] | None = None,
    spans: Sequence[int] | None = None,
    ballot: tuple[int, int, int] = (3, 0, 0),
    codec: str = "int8",
) -> Record:
    """A draft with these weights in rank order; by default of `peer(0)`, `peer(1)`, ... with equal spans."""
    names = members if members is not None else [peer(rank) for rank in range(len(weights))]
    bounds = spans if spans is not None else plan_spans(count, [1.0] * len(weights), block)
    return Record(
        round=ballot[0],
        previous=bytes(32),
        fingerprint=FINGERPRINT,
        ballot=Ballot(round=ballot[0], attempt=ballot[1], rank=ballot[2]),
        seats=tuple(Seat(peer=name, tokens=tokens, used=()) for name, tokens in zip(names, weights, strict=True)),
        codec=codec,
        spans=tuple(bounds),
        digests=(),
        state_root=b"",
        tokens_total=sum(weights),
        ledger=Ledger(cursor=0, free=(), assigned=()),
    )
