"""Chains side by side: agreement, forks and whose chain is wrong are found whatever the chains are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.chain import InvalidRecord
from p2p.protocol.lineages import Fork, Lineages, Violation
from p2p.protocol.messages import SignedRecord
from tests.p2p.protocol.histories import Turn, extend, run, turns
from tests.p2p.protocol.records import FINGERPRINT, peer, verify

THREE: list[Turn] = [[(0, 8), (1, 8), (2, 8)]] * 3


def bodies(chain: Sequence[SignedRecord]) -> Iterator[bytes]:
    return (bytes(msgpack.packb(one.to_wire(), use_bin_type=True)) for one in chain)


def walked(**chains: Iterator[bytes]) -> Lineages:
    lineages = Lineages(chains, FINGERPRINT, verify)
    while lineages.step():
        pass
    return lineages


@given(turns, st.lists(st.integers(0, 8), min_size=1, max_size=4))
def test_chains_of_one_history_agree_however_long_each_is(history: list[Turn], lengths: list[int]) -> None:
    chain = run(history)
    found = walked(**{f"node{i}": bodies(chain[:length]) for i, length in enumerate(lengths)})
    (lineage,) = found.all
    assert found.forks == []
    assert lineage.audit.tip.height == min(max(lengths), len(chain)) - 1
    assert found.ended == {f"node{i}": min(length, len(chain)) - 1 for i, length in enumerate(lengths)}


@given(turns, turns, turns)
def test_where_histories_part_is_found_and_both_are_proved(
    common: list[Turn], one: list[Turn], other: list[Turn]
) -> None:
    stem = run(common)
    a, b = extend(stem, one), extend(stem, other)
    shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    found = walked(a=bodies(a), b=bodies(b), c=bodies(a))
    assert found.ended == {"a": len(a) - 1, "b": len(b) - 1, "c": len(a) - 1}
    if shared == min(len(a), len(b)):
        assert found.forks == []
        assert len(found.all) == 1
    else:
        signers = set(a[shared].record.voters) & set(b[shared].record.voters)
        assert found.forks == [Fork(shared - 1, (("a", "c"), ("b",)), tuple(sorted(signers)))]
        assert [(lineage.nodes, lineage.audit.tip.height) for lineage in found.all] == [
            (("a", "c"), len(a) - 1),
            (("b",), len(b) - 1),
        ]


def test_nodes_may_keep_different_signatures_of_one_record() -> None:
    chain = run(THREE)
    fewer = [SignedRecord(record=one.record, signatures=one.signatures[1:]) for one in chain]
    found = walked(a=bodies(chain), b=bodies(fewer))
    assert found.forks == []
    assert found.all[0].nodes == ("a", "b")


def test_the_first_violation_names_nodes_round_and_fault() -> None:
    chain = run(THREE)
    forged = SignedRecord(record=chain[1].record, signatures=((0, b"\x00" * 64),))
    lineages = Lineages({"a": bodies(chain), "b": bodies([chain[0], forged, chain[2]])}, FINGERPRINT, verify)
    assert lineages.step()
    with pytest.raises(Violation, match=rf"^b: after round 0: record of round 1 has a forged signature of {peer(0)}"):
        lineages.step()
    assert lineages.all[0].audit.tip.height == 0, "what was proved until then stays said"


def test_bytes_that_are_no_record_are_a_violation() -> None:
    with pytest.raises(Violation, match=r"^a: at the start: no record: "):
        walked(a=iter([b"\x93\x01\x02\x03"]))


def test_a_chain_that_cannot_be_read_on_is_a_violation() -> None:
    def broken() -> Iterator[bytes]:
        yield from bodies(run(THREE)[:1])
        raise InvalidRecord("the entry at byte 700 is damaged")

    with pytest.raises(Violation, match=r"^b: after round 0: the entry at byte 700 is damaged"):
        walked(a=bodies(run(THREE)), b=broken())
