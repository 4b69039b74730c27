"""Flat vectors in files: what the safetensors library reads, and nothing but what was written is believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from ops.digest import digest
from ops.layout import FlatLayout
from swarm.checkpoint.flat_file import BadFile, DurableFile, Written, check_whole, flat_header, read_flat, write_whole
from tests.swarm.checkpoint.saved import LAYOUT, vectors


def written(path: Path, seed: int = 1) -> Written:
    return write_whole(path, [flat_header(LAYOUT), vectors(seed)[0]])


def test_the_safetensors_library_reads_it(tmp_path: Path) -> None:
    found = written(tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    theta_P = vectors(1)[0]
    assert {name: x.shape for name, x in tensors.items()} == {e.name: e.shape for e in LAYOUT.entries}
    for entry in LAYOUT.entries:
        assert tensors[entry.name].tobytes() == theta_P[entry.start : entry.stop].tobytes()
    data = (tmp_path / "a.safetensors").read_bytes()
    assert found == Written(len(data), digest(data).hex())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(shapes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=6))
def test_any_layout_comes_back(tmp_path: Path, shapes: list[list[int]]) -> None:
    layout = FlatLayout.of([(f"p{index}é", shape) for index, shape in enumerate(shapes)])
    values = np.arange(layout.count, dtype=np.float32)
    path = tmp_path / "any"
    path.unlink(missing_ok=True)
    found = write_whole(path, [flat_header(layout), values])
    assert len(flat_header(layout)) % 8 == 0
    assert load_file(path).keys() == {entry.name for entry in layout.entries}
    out = np.empty_like(values)
    middle = layout.count // 2
    read_flat(path, layout, [out[:middle], out[middle:]], found)
    assert out.tobytes() == values.tobytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(where=st.integers(0, 20_000), flip=st.integers(1, 255))
def test_a_flipped_bit_anywhere_is_found(tmp_path: Path, where: int, flip: int) -> None:
    path = tmp_path / "a"
    path.unlink(missing_ok=True)
    found = written(path)
    data = bytearray(path.read_bytes())
    data[where % len(data)] ^= flip
    path.write_bytes(data)
    out = np.empty(LAYOUT.count, np.float32)
    with pytest.raises(BadFile):
        read_flat(path, LAYOUT, [out], found)
    with pytest.raises(BadFile):
        check_whole(path, found)


@pytest.mark.parametrize("change", [-1, -4000, 1])
def test_another_length_is_found(tmp_path: Path, change: int) -> None:
    path = tmp_path / "a"
    found = written(path)
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + b"x")
    with pytest.raises(BadFile, match=r"cut off|damaged"):
        read_flat(path, LAYOUT, [np.empty(LAYOUT.count, np.float32)], found)
    with pytest.raises(BadFile, match="damaged"):
        check_whole(path, found)


def test_another_model_is_named(tmp_path: Path) -> None:
    found = written(tmp_path / "a")
    other = FlatLayout.of([("x", (LAYOUT.count,))])
    with pytest.raises(BadFile, match="other tensors"):
        read_flat(tmp_path / "a", other, [np.empty(LAYOUT.count, np.float32)], found)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="No such file"):
        read_flat(tmp_path / "no", LAYOUT, [np.empty(LAYOUT.count, np.float32)], Written(0, ""))
    with pytest.raises(BadFile, match="No such file"):
        check_whole(tmp_path / "no", Written(0, ""))


def test_a_file_is_never_written_over(tmp_path: Path) -> None:
    written(tmp_path / "a")
    with pytest.raises(FileExistsError), DurableFile(tmp_path / "a"):
        pass
