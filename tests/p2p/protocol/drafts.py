"""Drafts of rounds for tests of the butterfly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from p2p.protocol import bitmap
from p2p.protocol.ballot import Ballot
from p2p.protocol.messages import Ledger, Plan, Record, Route, Seat, Segment
from p2p.protocol.pieces import PIECE_SIZE, PieceSize, piece_size, plan_spans
from tests.p2p.protocol.records import FINGERPRINT, peer


def plan_of(
    weights: Sequence[int],
    count: int,
    block: int,
    *,
    members: Sequence[str] | None = None,
    spans: Sequence[int] | None = None,
    piece: int | None = None,
    ballot: tuple[int, int, int] = (3, 0, 0),
    codec: str = "int8",
    pieces: PieceSize = PIECE_SIZE,
) -> Plan:
    """A plan with these weights in rank order; by default of `peer(0)`, `peer(1)`, ... with equal spans."""
    names = members if members is not None else [peer(rank) for rank in range(len(weights))]
    size = piece or piece_size(count, len(weights), block, pieces)
    bounds = spans if spans is not None else plan_spans(count, [1.0] * len(weights), size)
    owned = [(rank, stop) for rank, (start, stop) in enumerate(pairwise(bounds)) if start < stop]
    heavy = bitmap.pack((rank for rank, weight in enumerate(weights) if weight), len(weights))
    number = Ballot(round=ballot[0], attempt=ballot[1], rank=ballot[2], lineage=0)
    draft = Record(
        round=ballot[0],
        previous=bytes(32),
        fingerprint=FINGERPRINT,
        ballot=number,
        seats=tuple(Seat(peer=name, tokens=tokens, used=()) for name, tokens in zip(names, weights, strict=True)),
        codec=codec,
        piece=size,
        segments=tuple(Segment(stop=stop, contributors=heavy, digest=b"") for _, stop in owned),
        state_root=b"",
        tokens_total=sum(weights),
        ledger=Ledger(cursor=0, free=(), assigned=()),
    )
    return Plan(ballot=number, draft=draft, routes=tuple(Route(owner=rank, done=False) for rank, _ in owned))
