"""Kernels: compiled late and once, by many processes at once, whatever becomes of the cache."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest

from ops import jit
from ops.jit import FLOATS_IN, INT, Floats, kernel

SCRIPT = """
import numpy as np
from ops.pseudo_gradient import all_finite
assert all_finite(np.ones(100, np.float32)) and not all_finite(np.full(100, np.inf, np.float32))
"""


def start(cache: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.Popen([sys.executable, "-W", "error", "-c", SCRIPT], env=environment)


def test_processes_that_start_together_share_one_compilation_and_survive_a_damaged_cache(tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(2)]
    assert [process.wait(100) for process in processes] == [0, 0]
    (code,) = tmp_path.rglob("*all_finite*.nbc")
    (index,) = tmp_path.rglob("*all_finite*.nbi")
    for file in (code, index):
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        assert start(tmp_path).wait(100) == 0
        file.write_bytes(whole)


def test_a_kernel_is_not_compiled_before_its_first_call_and_releases_the_gil() -> None:
    @kernel(INT(FLOATS_IN), "test_size")
    def size(x_P: Floats) -> int:
        return x_P.size

    assert size._compiled is None
    assert size(np.zeros(3, np.float32)) == 3
    compiled = size._compiled
    assert compiled is not None
    assert size.compile() is compiled
    assert compiled.targetoptions["nogil"]  # type: ignore[attr-defined]
    assert not compiled.targetoptions["fastmath"]  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="No matching definition"):
        size(np.zeros(3, np.float64))  # type: ignore[arg-type]


def test_no_cache_directory_is_no_hindrance() -> None:
    """A function without a file has no place for a cache: the same refusal as a read-only disk's."""
    namespace: dict[str, FunctionType] = {}
    exec(compile("def count(x_P):\n    return x_P.size", "<nowhere>", "exec"), namespace)
    count = kernel(INT(FLOATS_IN), "test_count")(namespace["count"])
    assert count(np.zeros(4, np.float32)) == 4


def test_a_frozen_process_that_holds_the_lock_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit, "LOCK_PATIENCE_S", 0.05)
    with (tmp_path / "swarm-kernels.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with jit._alone(tmp_path):
            pass


def test_the_names_in_the_cache_change_with_any_kernel_source() -> None:
    from ops.kernels_finite import all_finite

    assert all_finite.py_func.__qualname__ == f"all_finite_{jit._sources_digest()}"
