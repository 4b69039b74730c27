"""The state on disk: what is read back is what was written, or nothing, whatever a crash left."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol.holdings import EMPTY
from p2p.transfer.state_file import StateFile

RUN = b"r" * 32
CHUNK, COUNT = 300, 1000
SIZES = [2400, 2400, 2400, 800]

Open = Callable[..., StateFile]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def data(index: int, seed: int) -> bytes:
    return bytes((seed + i) % 251 for i in range(SIZES[index]))


def test_what_was_written_is_there_at_the_next_start(path: Path) -> None:
    file = StateFile(path, RUN, COUNT, CHUNK)
    assert [file.round(index) for index in range(4)] == [EMPTY] * 4
    assert file.read(0) is None
    file.write(1, 7, data(1, 1))
    file.write(3, 0, data(3, 2))
    file.write(1, 8, data(1, 3))
    assert file.read(1) == (8, data(1, 3))
    file.close()
    again = StateFile(path, RUN, COUNT, CHUNK)
    assert [again.round(index) for index in range(4)] == [EMPTY, 8, EMPTY, 0]
    assert [again.read(index) for index in range(4)] == [None, (8, data(1, 3)), None, (0, data(3, 2))]
    again.close()


@pytest.mark.parametrize(("run", "count", "chunk"), [(b"s" * 32, COUNT, CHUNK), (RUN, 999, CHUNK), (RUN, COUNT, 301)])
def test_a_file_of_another_run_or_size_is_begun_anew(path: Path, run: bytes, count: int, chunk: int) -> None:
    file = StateFile(path, RUN, COUNT, CHUNK)
    file.write(0, 7, data(0, 1))
    file.close()
    other = StateFile(path, run, count, chunk)
    assert other.round(0) == EMPTY
    assert other.read(0) is None
    other.close()


def test_the_file_is_sparse(path: Path) -> None:
    file = StateFile(path, RUN, 100_000_000, 1 << 20)
    values = 100_000_000 % (1 << 20)
    file.write(95, 0, bytes(8 * values))
    assert path.stat().st_size >= 8 * 100_000_000
    assert path.stat().st_blocks * 512 < 20 << 20
    file.close()


def test_a_label_that_was_changed_is_not_believed(path: Path) -> None:
    """As if the table had reached the disk of a dying machine, and the chunk had not."""
    file = StateFile(path, RUN, COUNT, CHUNK)
    file.write(0, 7, data(0, 1))
    file.close()
    with path.open("r+b") as raw:
        raw.seek(4096)
        raw.write((8).to_bytes(8, "little"))
    again = StateFile(path, RUN, COUNT, CHUNK)
    assert again.round(0) == 8
    assert again.read(0) is None
    again.close()


@given(
    writes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 250)), max_size=8),
    damage=st.lists(st.tuples(st.integers(0, 12_500), st.binary(min_size=1, max_size=64)), max_size=3),
    cut=st.none() | st.integers(0, 13_000),
)
def test_whatever_a_crash_leaves_a_chunk_is_what_was_written_or_not_there(
    writes: list[tuple[int, int, int]], damage: list[tuple[int, bytes]], cut: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        file = StateFile(path, RUN, COUNT, CHUNK)
        for index, round, seed in writes:
            file.write(index, round, data(index, seed))
        file.close()
        with path.open("r+b") as raw:
            for offset, garbage in damage:
                raw.seek(offset)
                raw.write(garbage)
            if cut is not None:
                raw.truncate(cut)
        again = StateFile(path, RUN, COUNT, CHUNK)
        for index in range(4):
            found = again.read(index)
            written = [(round, data(index, seed)) for i, round, seed in writes if i == index]
            assert found is None or found in written
            again.write(index, 9, data(index, 9))
            assert again.read(index) == (9, data(index, 9))
        again.close()
