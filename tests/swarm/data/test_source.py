from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from swarm.data.source import ArrayTokens, read_round


@given(st.integers(1, 30), st.integers(0, 100), st.integers(0, 100))
def test_reading_goes_round_and_round(count: int, start: int, length: int) -> None:
    tokens = ArrayTokens(np.arange(count, dtype=np.uint8))
    expected = [(start + i) % count for i in range(length)]
    assert (read_round(tokens, start, length).tolist() if length else []) == expected
