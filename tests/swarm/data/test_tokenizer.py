from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from swarm.data.tokenizer import VOCABULARY, decode, encode


@given(st.text())
def test_text_survives(text: str) -> None:
    tokens_N = encode(text)
    assert tokens_N.dtype == np.uint8
    assert all(token < VOCABULARY for token in tokens_N)
    assert decode(tokens_N) == text


def test_one_token_is_one_byte() -> None:
    assert encode("né").size == 3


def test_a_cut_character_does_not_raise() -> None:
    assert decode(encode("né")[:-1]) == "n�"
