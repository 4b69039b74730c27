from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import bitmap


@given(st.integers(1, 300).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1)))))
def test_a_set_has_one_form_and_comes_back(case: tuple[int, set[int]]) -> None:
    size, numbers = case
    data = bitmap.pack(numbers, size)
    assert bitmap.unpack(data) == tuple(sorted(numbers))
    assert bitmap.fits(data, size)
    assert not bitmap.fits(data + b"\0", size), "another length is another form"
    assert not bitmap.fits(data[:-1], size)


def test_numbers_beyond_the_size_do_not_fit() -> None:
    assert bitmap.fits(b"\x07", 3)
    assert not bitmap.fits(b"\x08", 3)
    assert bitmap.fits(b"", 0)
    assert bitmap.unpack(b"") == ()
