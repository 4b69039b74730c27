"""What payloads stand for: equal content is one object, and state is a chain of what moved it."""

from __future__ import annotations

import pytest

from p2p.protocol.fragments import Fragments
from swarm.simulate.virtual.content import CHUNKS, GENESIS, Codes, MeanBook, joint_digest, root_of
from swarm.simulate.virtual.fetch import sizes_for
from swarm.simulate.virtual.store import KEEP_MEANS, VirtualStore

WHOLE = sizes_for(Fragments.whole(4096))


def codes(peer: str, life: int = 0) -> Codes:
    return Codes(peer, life, 1, 80, ((0, 8),))


def test_equal_means_are_one_and_every_difference_is_another() -> None:
    book, a, b = MeanBook(), codes("a"), codes("b")
    mean = book.mean((a, b), (1.0, 2.0))
    assert book.mean((a, b), (1.0, 2.0)) is mean
    others = [
        book.mean((b, a), (2.0, 1.0)),
        book.mean((a, b), (1.0, 1.0)),
        book.mean((a,), (1.0,)),
        book.mean((codes("a", life=1), b), (1.0, 2.0)),
    ]
    assert len({mean.digest, *(other.digest for other in others)}) == 5


def test_the_digest_of_pieces_depends_on_all_of_them() -> None:
    assert joint_digest((b"a", b"a")) == b"a"
    assert len({joint_digest((b"a", b"b")), joint_digest((b"b", b"a")), joint_digest((b"a", b"b", b"b"))}) == 3


def test_state_depends_on_all_means_and_a_round_without_weight_moves_nothing() -> None:
    one, other = VirtualStore(WHOLE), VirtualStore(WHOLE)
    one.apply(b"m", 0)
    one.apply(None, 1)
    other.apply(None, 0)
    other.apply(b"m", 1)
    assert one.root() == other.root() != root_of(GENESIS)
    other.apply(b"n", 2)
    assert other.root() != one.root()
    assert list(one.manifests[1]) == one.chunks


def test_only_the_last_means_are_kept_and_a_round_cannot_be_left_out() -> None:
    store = VirtualStore(WHOLE)
    for round in range(10):
        store.apply(b"m", round)
        store.root()
    assert list(store.means) == list(range(10 - KEEP_MEANS, 10))
    assert len(store.manifests) == KEEP_MEANS + 1
    with pytest.raises(AssertionError):
        store.apply(b"m", 11)


def test_chunks_may_be_of_different_rounds_while_they_are_fetched() -> None:
    store, donor = VirtualStore(WHOLE), VirtualStore(WHOLE)
    donor.apply(b"m", 0)
    store.write(0, 0, donor.chunks[0])
    assert store.round is None
    for index in range(1, CHUNKS):
        store.write(index, 0, store.replayed(index, 0, b"m"))
    assert (store.round, store.root()) == (0, donor.root())
    store.forget_history()
    assert not store.means


def test_a_round_moves_the_chunks_that_its_fragment_touches_and_no_others() -> None:
    store = VirtualStore(sizes_for(Fragments((0, 1500, 4096))))  # chunks of 1024 values
    store.apply(b"m", 0)
    first = list(store.chunks)
    assert [chunk != before for chunk, before in zip(first, GENESIS, strict=True)] == [True, True, False, False]
    store.apply(b"n", 1)
    assert [chunk != before for chunk, before in zip(store.chunks, first, strict=True)] == [False, True, True, True]
    for round in range(2, 20):
        store.apply(b"m", round)
    assert sorted(store.means) == list(range(20 - 2 * KEEP_MEANS, 20))
