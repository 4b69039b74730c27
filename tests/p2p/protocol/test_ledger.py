"""The ledger keeps its promise under any history of membership: each sample committed at most once, none skipped."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import ledger
from p2p.protocol.messages import Seat
from p2p.protocol.model import Range
from tests.sim.virtual_swarm import peer_name

ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], sum(pair))), max_size=8)


def points(spans: list[Range] | tuple[Range, ...]) -> set[int]:
    return {sample for start, stop in spans for sample in range(start, stop)}


@given(ranges)
def test_merged_keeps_the_samples_in_sorted_maximal_ranges(spans: list[Range]) -> None:
    result = ledger.merged(spans)
    assert points(result) == points(spans)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(result))


@given(ranges, ranges)
def test_subtract_is_set_difference(whole: list[Range], taken: list[Range]) -> None:
    assert points(ledger.subtract(whole, taken)) == points(whole) - points(taken)


@given(ranges, st.integers(0, 80))
def test_take_splits_at_the_count(spans: list[Range], count: int) -> None:
    whole = ledger.merged(spans)
    taken, rest = ledger.take(whole, count)
    assert ledger.size(taken) == min(count, ledger.size(whole))
    assert points(taken) | points(rest) == points(whole)
    assert not points(taken) & points(rest)


@given(st.data())
def test_every_sample_is_committed_free_or_assigned_exactly_once(data: st.DataObject) -> None:
    state, committed = ledger.EMPTY, list[Range]()
    for _ in range(data.draw(st.integers(1, 8))):
        members = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=5, unique=True))
        seats = []
        for member in members:
            peer = peer_name(member)
            mine = ledger.assigned_to(state, peer)
            used, _ = ledger.take(mine, data.draw(st.integers(0, ledger.size(mine))))
            seats.append(Seat(peer=peer, tokens=ledger.size(used), used=used))
        before, state = state, ledger.settle(state, tuple(seats), quota=data.draw(st.integers(1, 7)))
        committed += [span for seat in seats for span in seat.used]
        outstanding = [span for assignment in state.assigned for span in assignment.ranges]
        everything = [*committed, *state.free, *outstanding]
        assert ledger.size(everything) == state.cursor
        assert points(everything) == set(range(state.cursor))
        for seat in seats:
            now = points(ledger.assigned_to(state, seat.peer))
            unused = points(ledger.assigned_to(before, seat.peer)) - points(seat.used)
            assert unused <= now or now <= unused, "it may be training on them"


def test_samples_of_the_dead_are_handed_out_first() -> None:
    both = [Seat(peer=peer_name(index), tokens=0, used=()) for index in range(2)]
    first = ledger.settle(ledger.EMPTY, tuple(both), quota=4)
    survivor = Seat(peer=peer_name(0), tokens=4, used=((0, 4),))
    second = ledger.settle(first, (survivor,), quota=4)
    assert ledger.assigned_to(second, peer_name(0)) == ((4, 8),)
    assert second.cursor == 8
    assert ledger.assigned_to(second, peer_name(1)) == ()


def test_a_member_that_goes_on_keeps_what_it_has_not_used() -> None:
    first = ledger.settle(
        ledger.EMPTY, tuple(Seat(peer=peer_name(index), tokens=0, used=()) for index in range(3)), quota=4
    )
    ahead = Seat(peer=peer_name(1), tokens=3, used=((4, 7),))
    lost = Seat(peer=peer_name(2), tokens=1, used=((8, 9),), present=False)
    second = ledger.settle(first, (Seat(peer=peer_name(0), tokens=4, used=((0, 4),)), ahead, lost), quota=4)
    assert ledger.assigned_to(second, peer_name(0)) == ((9, 13),)
    assert ledger.assigned_to(second, peer_name(1)) == ((7, 8), (13, 16))


@pytest.mark.parametrize("used", [((2, 6),), ((0, 2), (1, 3))], ids=["another's", "twice"])
def test_a_claim_to_samples_that_were_not_assigned_is_refused(used: tuple[Range, ...]) -> None:
    state = ledger.settle(
        ledger.EMPTY, tuple(Seat(peer=peer_name(index), tokens=0, used=()) for index in range(2)), quota=4
    )
    with pytest.raises(ledger.BadClaim, match=peer_name(0)):
        ledger.settle(state, (Seat(peer=peer_name(0), tokens=1, used=used),), quota=4)
