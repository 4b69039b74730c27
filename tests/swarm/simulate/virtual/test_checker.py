"""The rules: each is broken once, and the checker says so."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from p2p.protocol.chain import record_hash
from p2p.protocol.messages import Record, SignedRecord
from swarm.simulate.virtual.checker import Checker, Violation
from swarm.simulate.virtual.content import Mean
from swarm.simulate.virtual.node import sign
from swarm.simulate.virtual.world import FINGERPRINT
from tests.sim.scene import Scene


class Case:
    """A round that three virtual nodes have committed, and a checker that has seen the round before."""

    def __init__(self) -> None:
        scene = Scene.of(3, rounds=0)
        seen: list[tuple[SignedRecord, Mapping[int, Mean], bytes]] = []
        applied = scene.world.checker.applied
        formation = scene.nodes[0].chain.record(0)

        def watch(name: str, signed: SignedRecord, means: Mapping[int, Mean], digest: bytes) -> bool:
            seen.append((signed, means, digest))
            return applied(name, signed, means, digest)

        scene.world.checker.applied = watch  # type: ignore[method-assign]
        scene.run_rounds(1)
        self.signed, self.means, self.digest = seen[0]
        self.record = self.signed.record
        self.checker = Checker(FINGERPRINT)
        self.vote(formation.record)
        self.checker.applied("n0", formation, {}, b"")

    def vote(self, record: Record, lives: int = 0) -> SignedRecord:
        """All seats sign it."""
        digest = record_hash(record)
        for peer in record.members:
            self.checker.voted(peer, lives, digest)
        signatures = tuple((rank, sign(peer, digest)) for rank, peer in enumerate(record.members))
        return SignedRecord(record=record, signatures=signatures)

    def apply(self, record: Record, means: Mapping[int, Mean] | None = None, lives: int = 0) -> bool:
        signed = self.vote(record, lives)
        return self.checker.applied("n0", signed, self.means if means is None else means, self.digest)

    def changed(self, **fields: object) -> Record:
        return self.record.model_copy(update=fields)


def test_a_sound_round_is_new_once() -> None:
    case = Case()
    assert case.apply(case.record)
    assert not case.apply(case.record)
    assert case.checker.height == 1


def test_a_commit_needs_the_votes_that_it_names() -> None:
    case = Case()
    with pytest.raises(Violation, match="without votes"):
        case.checker.applied("n0", case.signed, case.means, case.digest)


def test_nobody_applies_another_mean_than_others() -> None:
    case = Case()
    case.apply(case.record)
    with pytest.raises(Violation, match="another mean"):
        case.checker.applied("n1", case.signed, case.means, b"other")


def test_two_records_of_a_round_need_a_cut_and_signers_of_their_own() -> None:
    case = Case()
    case.apply(case.record)
    other = case.changed(ballot=case.record.ballot.model_copy(update={"attempt": 7}))
    with pytest.raises(Violation, match="nobody was cut off"):
        case.apply(other, lives=1)
    case.checker.may_fork = True
    with pytest.raises(Violation, match="signed both"):
        case.apply(other)
    assert case.apply(other.model_copy(update={"state_root": b"r" * 32}), lives=2)


def test_equal_heads_have_equal_state() -> None:
    checker = Checker(FINGERPRINT)
    checker.holds("n0", b"head", b"root")
    checker.holds("n1", b"head", b"root")
    with pytest.raises(Violation, match="another state"):
        checker.holds("n2", b"head", b"other")


def test_a_mean_is_of_the_contributors_and_weights_that_the_record_names() -> None:
    case = Case()
    seats = case.record.seats
    heavier = (seats[0].model_copy(update={"tokens": 81}), *seats[1:])
    with pytest.raises(Violation, match="contributors and weights"):
        case.apply(case.changed(seats=heavier))
    with pytest.raises(Violation, match="contributors and weights"):
        case.apply(case.record, {piece: mean for piece, mean in case.means.items() if piece})


def test_a_mean_is_of_what_was_trained_in_this_round() -> None:
    case = Case()
    seats = case.record.seats
    unused = (seats[0].model_copy(update={"used": seats[0].used[:0]}), *seats[1:])
    settled = case.record.ledger.model_copy(update={"free": (*seats[0].used, *case.record.ledger.free)})
    with pytest.raises(Violation, match="not of this round, or of another weight"):
        case.apply(case.changed(seats=unused, ledger=settled))


@pytest.mark.parametrize("fault", ["lost", "twice", "beyond"])
def test_the_ledger_has_every_sample_once(fault: str) -> None:
    case = Case()
    book = case.record.ledger
    wrong = {
        "lost": {"assigned": book.assigned[1:]},
        "twice": {"free": book.assigned[0].ranges},
        "beyond": {"cursor": book.cursor + 1},
    }[fault]
    with pytest.raises(Violation, match="loses samples or has some twice"):
        case.apply(case.changed(ledger=book.model_copy(update=wrong)))
