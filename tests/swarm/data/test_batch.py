from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from swarm.data.batch import packed

EOS = 9


def test_targets_are_the_next_tokens() -> None:
    windows = [np.arange(5, dtype=np.uint16), np.arange(3, 8, dtype=np.uint16)]
    batch = packed(windows, EOS, (4, 7))
    assert batch.inputs_BL.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert batch.targets_BL.tolist() == [[1, 2, 3, 4], [4, 5, 6, 7]]
    assert batch.inputs_BL.dtype == batch.targets_BL.dtype == np.int64
    assert (batch.tokens, len(batch), batch.indices) == (8, 2, (4, 7))
    assert batch.documents_BL is None, "one document in each sample needs no mask"


def test_an_end_belongs_to_the_document_it_ends() -> None:
    batch = packed([np.array([1, EOS, 2, 3, EOS, EOS, 4], dtype=np.uint8)], EOS)
    assert batch.documents_BL is not None
    assert batch.documents_BL.tolist() == [[0, 0, 1, 1, 1, 2]]
    assert batch.documents_BL.dtype == np.int32


def test_an_end_at_the_last_place_begins_nothing() -> None:
    assert packed([np.array([1, 2, EOS, 3], dtype=np.uint8)], EOS).documents_BL is None


@given(st.lists(st.lists(st.integers(0, EOS), min_size=7, max_size=7), min_size=1, max_size=5), st.data())
def test_rows_are_a_part_of_the_batch(windows: list[list[int]], data: st.DataObject) -> None:
    batch = packed([np.array(row, dtype=np.uint8) for row in windows], EOS, tuple(range(len(windows))))
    start = data.draw(st.integers(0, len(windows)))
    part = batch.rows(start, len(windows))
    assert part.indices == batch.indices[start:]
    assert (part.inputs_BL == batch.inputs_BL[start:]).all()
    assert (part.targets_BL == batch.targets_BL[start:]).all()
    if batch.documents_BL is not None:
        assert part.documents_BL is not None
        assert (part.documents_BL == batch.documents_BL[start:]).all()
