from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from swarm.data.embedded import load_embedded
from swarm.data.reader import Reader
from swarm.data.source import DataError, Source, read_round
from tests.swarm.data.sources import counted, joined, reader_of, source_of

DOCUMENT = st.binary(max_size=150).map(lambda data: np.frombuffer(data.replace(b"\xff", b"."), dtype=np.uint8))
HUGE = st.integers(300, 3000).map(lambda size: np.full(size, 7, dtype=np.uint8))


def whole_epochs(reader: Reader, source: Source, epochs: int) -> tuple[Counter[int], Counter[int], int]:
    """Inputs, targets and their number in the samples that begin in the first epochs of a reader of one source."""
    inputs: Counter[int] = Counter()
    targets: Counter[int] = Counter()
    samples = -(-epochs * source.train.count // reader.sequence_length)
    for first in range(0, samples, 64):
        batch = reader.batch(range(first, min(samples, first + 64)))
        inputs.update(batch.inputs_BL.ravel().tolist())
        targets.update(batch.targets_BL.ravel().tolist())
    return inputs, targets, samples * reader.sequence_length


def tokens_in(source: Source, total: int) -> tuple[Counter[int], Counter[int]]:
    """The first `total` tokens of the endless text, and those one further."""
    text_N = read_round(source.train, 0, total + 1)
    return Counter(text_N[:-1].tolist()), Counter(text_N[1:].tolist())


class TestNothingIsDropped:
    @settings(max_examples=40, deadline=None)
    @given(st.lists(DOCUMENT | HUGE, min_size=1, max_size=12), st.integers(1, 96), st.integers(1, 3))
    def test_of_documents_of_any_length(self, documents: list[NDArray[np.uint8]], length: int, epochs: int) -> None:
        source = source_of(joined(documents))
        if source.train.count < length:
            return
        reader = reader_of(source, sequence_length=length, seed=1)
        inputs, targets, total = whole_epochs(reader, source, epochs)
        assert (inputs, targets) == tokens_in(source, total)
        assert 0 <= total - epochs * source.train.count < length

    def test_of_the_embedded_text(self) -> None:
        source = load_embedded()
        reader = reader_of(source, sequence_length=1000)
        inputs, targets, total = whole_epochs(reader, source, 1)
        assert (inputs, targets) == tokens_in(source, total)


class TestBatch:
    def test_a_sample_is_a_stretch_of_its_source(self) -> None:
        batch = reader_of(source_of(counted(1000), eos=10**6)).batch([0, 5, 11])
        assert batch.inputs_BL.shape == (3, 16)
        assert (batch.inputs_BL[:, 0] % 16 == 0).all()
        assert (np.diff(batch.inputs_BL, axis=1) == 1).all()
        assert (batch.targets_BL == batch.inputs_BL + 1).all()
        assert batch.indices == (0, 5, 11)

    def test_documents_are_told_apart(self) -> None:
        text = joined([np.full(size, size, dtype=np.uint8) for size in (3, 0, 20, 4)])
        reader = reader_of(source_of(text), sequence_length=text.size)
        documents_BL = reader.batch([0]).documents_BL
        assert documents_BL is not None
        assert np.bincount(documents_BL[0]).tolist() == [4, 1, 21, 5]

    def test_a_batch_is_the_same_for_every_reader_and_however_it_is_asked_for(self) -> None:
        sources = [source_of(counted(700), name="a", eos=10**6), source_of(counted(900) + 5000, name="b", eos=10**6)]
        whole = reader_of(*sources, mix="a:2, b:1").batch(range(60))
        other = reader_of(*sources, mix="a:2, b:1")
        for first in (40, 0, 20):
            part = other.batch(range(first, first + 20))
            assert (part.inputs_BL == whole.inputs_BL[first : first + 20]).all()
        assert (whole.inputs_BL[:, 0] >= 5000).sum() == 20

    def test_sources_of_a_mix_are_walked_in_their_own_orders(self) -> None:
        source = source_of(counted(1600), name="a", eos=10**6)
        alone = reader_of(source).batch(range(20))
        mixed = reader_of(source, source_of(counted(1600) + 5000, name="b", eos=10**6)).batch(range(40))
        assert (mixed.inputs_BL[mixed.inputs_BL[:, 0] < 5000] == alone.inputs_BL).all()

    def test_sources_with_different_tokenizers_do_not_mix(self) -> None:
        one = source_of(counted(100), name="a")
        with pytest.raises(DataError, match="a and b were prepared with different tokenizers"):
            reader_of(one, replace(one, name="b", tokenizer="other"))


class TestHeldOut:
    @settings(deadline=None)
    @given(st.integers(17, 5000), st.integers(1, 6000))
    def test_samples_do_not_overlap_and_are_at_most_as_many_as_asked_for(self, size: int, most: int) -> None:
        batch = reader_of(source_of(counted(100), counted(size), eos=10**6)).held_out(most)
        assert batch.tokens <= max(most, 16)
        assert (np.diff(batch.inputs_BL[:, 0]) >= 16).all()
        assert batch.targets_BL.max() < size

    def test_sources_share_it_by_the_last_weights(self) -> None:
        sources = [source_of(counted(100), counted(9000) + 10_000 * i, name=f"s{i}", eos=10**6) for i in range(3)]
        batch = reader_of(*sources, mix="s0, s1, s2; @100 s0:3, s2:1").held_out(16 * 100)
        assert np.bincount(batch.inputs_BL[:, 0] // 10_000).tolist() == [75, 0, 25]

    def test_a_source_without_held_out_text_leaves_its_share_out(self) -> None:
        sources = [
            source_of(counted(100), name="a", eos=10**6),
            source_of(counted(100), counted(9000), name="b", eos=10**6),
        ]
        assert len(reader_of(*sources).held_out(160)) == 10
        with pytest.raises(DataError, match=r"lower sequence_length.*--held-out"):
            reader_of(sources[0]).held_out(160)
