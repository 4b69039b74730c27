"""What comes before its plan is held: in bounds, and only while it may be of use."""

from __future__ import annotations

import pytest

from ops.codec import CODECS, Codec, Encoded
from p2p.protocol.ballot import Ballot
from p2p.protocol.messages import Go, Part
from p2p.protocol.model import BadMessage
from p2p.reduce.early import EARLY_BYTES, EARLY_PARTS, Early, EarlyPart, early_pieces
from p2p.reduce.recycler import Recycler
from tests.p2p.protocol.records import peer

INT8 = CODECS["int8"]
A, B = peer(1), peer(2)
COUNT = 100_000_000
PIECE = 1 << 20


def ballot(attempt: int, lineage: int = 0) -> Ballot:
    return Ballot(round=3, attempt=attempt, rank=0, lineage=lineage)


GO = Go(ballot=ballot(1), room=1, parts=b"", means=b"")


def part(start: int, count: int = 1024, attempt: int = 1, lineage: int = 0) -> Part:
    return Part(ballot=ballot(attempt, lineage), start=start, stop=start + count)


def fresh() -> Early:
    return Early(INT8, COUNT, Recycler(0))


def open_(early: Early, message: Part, name: str = A) -> bool:
    """Whether there is room for it."""
    size = INT8.code_bytes(message.stop - message.start) + 4 * INT8.scale_count(message.stop - message.start)
    space = early.open(name, message, size)
    assert space is None or sum(view.nbytes for view in space) == size
    return space is not None


def collected(early: Early, attempt: int) -> list[tuple[str, int | None, bool]]:
    """Peer, where a part starts (None: a Go), whether it is whole."""
    found = early.collect(ballot(attempt))
    return [
        (name, it.message.start, it.incoming.whole) if isinstance(it, EarlyPart) else (name, None, True)
        for name, it in found
    ]


def test_what_came_is_there_once_for_its_ballot() -> None:
    early = fresh()
    assert open_(early, part(0))
    assert open_(early, part(1024))
    early.take(A, part(0))
    early.on_go(A, GO)
    early.on_go(B, GO)
    assert collected(early, 1) == [
        (A, 0, True),
        (A, 1024, False),
        (A, None, True),
        (B, None, True),
    ]
    assert collected(early, 1) == []


def test_what_outruns_a_plan_is_kept_and_what_it_outruns_is_not() -> None:
    early = fresh()
    assert open_(early, part(0, attempt=2))
    assert open_(early, part(0, attempt=4), B)
    assert collected(early, 3) == []
    assert collected(early, 2) == []
    assert collected(early, 4) == [(B, 0, False)]


def test_a_member_that_goes_on_to_another_attempt_gives_the_first_one_up() -> None:
    early = fresh()
    assert open_(early, part(0))
    assert open_(early, part(1024, attempt=2))
    assert not open_(early, part(2048))
    early.on_go(A, GO)
    early.take(A, part(0))
    assert collected(early, 2) == [(A, 1024, False)]
    assert open_(early, part(0, attempt=2))
    assert open_(early, part(0, lineage=7))  # changed histories
    assert collected(early, 2) == []


def test_a_link_takes_with_it_what_came_over_it() -> None:
    early = fresh()
    assert open_(early, part(0))
    assert open_(early, part(0), B)
    early.forget(A)
    early.forget(peer(3))
    assert collected(early, 1) == [(B, 0, False)]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("piece", [1024, 32 * 1024, PIECE])
@pytest.mark.parametrize("others", [1, 3, 13, 100])
def test_what_everybody_may_send_everybody_takes(codec: Codec, piece: int, others: int) -> None:
    early = Early(codec, COUNT, Recycler(0))
    pieces = early_pieces(codec, piece, others)
    assert 1 <= pieces <= EARLY_PARTS
    size = Encoded.allocate(codec, piece).nbytes
    assert pieces * size * others <= max(EARLY_BYTES, others * size)
    for index in range(pieces):
        message = Part(ballot=ballot(1), start=index * piece, stop=(index + 1) * piece)
        assert early.open(A, message, size) is not None


def test_more_is_refused() -> None:
    early = fresh()
    for index in range(EARLY_PARTS):
        assert open_(early, part(1024 * index))
    with pytest.raises(BadMessage, match="without being asked"):
        open_(early, part(1024 * EARLY_PARTS))
    early = fresh()
    with pytest.raises(BadMessage, match="without being asked"):
        open_(early, part(0, EARLY_BYTES))
    assert open_(early, part(0, EARLY_BYTES // 2), B)
    with pytest.raises(BadMessage, match="without being asked"):
        open_(early, part(0, EARLY_BYTES // 2), B)


def test_what_is_no_part_is_refused() -> None:
    early = fresh()
    with pytest.raises(BadMessage, match="of a vector of"):
        open_(early, part(COUNT))
    with pytest.raises(BadMessage, match="belong"):
        early.open(A, part(0), 10_000)
    early = fresh()
    space = early.open(A, part(0), 4 * INT8.scale_count(1024) + 1024)
    assert space is not None
    space[0][:] = b"\xff" * len(space[0])
    with pytest.raises(BadMessage, match="finite"):
        early.take(A, part(0))
