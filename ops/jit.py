"""Kernels: functions that numba compiles at their first call, without the GIL, and keeps in its cache on disk.

Three things differ from a bare `numba.njit(cache=True)`:

- Compiled for one declared signature, at the first call or by `Kernel.compile`, never at import. Read-only, writable,
  aligned and unaligned arrays all take the same machine code.
- numba's cache watches the one file a function stands in. A helper changed in another file would leave old machine code
  in use, and two replicas could drift apart, so the cache name carries a digest of all kernel sources.
- Processes that start together compile one after the other (a lock file in the cache directory), so one compiles and
  the rest load. Where no cache directory can be written, kernels are compiled in memory. NUMBA_CACHE_DIR is respected.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic, overload

P = ParamSpec("P")
R = TypeVar("R")
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

FLOATS_IN = types.Array(types.float32, 1, "C", readonly=True, aligned=False)
FLOATS_OUT = types.Array(types.float32, 1, "C", readonly=False, aligned=False)
BYTES_IN = types.Array(types.uint8, 1, "C", readonly=True)
BYTES_OUT = types.Array(types.uint8, 1, "C", readonly=False)
ADDRESSES = types.Array(types.uint64, 1, "C", readonly=True)
FLOAT = types.float32
INT = types.int64
BOOL = types.boolean
VOID = types.void

LOCK_PATIENCE_S = 60.0
"""How long a process waits for others that compile before it compiles for itself (one of them may be frozen)."""

_one_at_a_time = threading.Lock()


def _sources_digest() -> str:
    here = Path(__file__).parent
    sources = [Path(__file__), *sorted(here.glob("kernels_*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


_SOURCES = _sources_digest()


class Kernel(Generic[P, R]):
    """A compiled function of one signature; call it like the Python function, which stays reachable as `py_func`."""

    def __init__(self, py_func: Callable[P, R], signature: Any, name: str) -> None:
        self.py_func = py_func
        self.name = name
        self._signature = signature
        self._compiled: Callable[P, R] | None = None
        py_func.__qualname__ = f"{name}_{_SOURCES}"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        compiled = self._compiled or self.compile()
        return compiled(*args, **kwargs)

    def compile(self) -> Callable[P, R]:
        """Compile, or load from the cache, now; from any thread. Done once."""
        with _one_at_a_time:
            if self._compiled is None:
                self._compiled = self._build()
            return self._compiled

    def _build(self) -> Callable[P, R]:
        try:
            return self._build_with(cache=True)
        except (OSError, EOFError, pickle.UnpicklingError, RuntimeError):
            # RuntimeError: numba found no directory it may write. The others: a full disk or a damaged cache file.
            return self._build_with(cache=False)

    def _build_with(self, *, cache: bool) -> Callable[P, R]:
        # No fastmath: LLVM then neither reorders sums nor contracts a * b + c.
        dispatcher: Any = numba.njit(nogil=True, cache=cache, fastmath=False, error_model="numpy")(self.py_func)
        with _alone(Path(dispatcher.stats.cache_path) if cache else None):
            dispatcher.compile(self._signature)
        dispatcher.disable_compile()
        compiled: Callable[P, R] = dispatcher
        return compiled


def kernel(signature: Any, name: str) -> Callable[[Callable[P, R]], Kernel[P, R]]:
    """Decorator: make a `Kernel`. `name` must be unique in the package (it names the cache files)."""

    def wrap(py_func: Callable[P, R]) -> Kernel[P, R]:
        return Kernel(py_func, signature, name)

    return wrap


@contextmanager
def _alone(directory: Path | None) -> Iterator[None]:
    """Hold the lock file of a cache directory, or go on without it when its holder does not let go."""
    if directory is None:
        yield
        return
    # Opened for reading: a directory shared by several users works, whoever made the file.
    file = os.open(directory / "swarm-kernels.lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02)
        yield
    finally:
        os.close(file)


def bytes_at(address: int, count: int) -> Bytes:
    """The bytes at an address, as an array: how a kernel reads any number of arrays given as one array of addresses.

    The caller keeps the memory alive.
    """
    return np.frombuffer(memoryview((ctypes.c_uint8 * int(count)).from_address(int(address))), np.uint8)


@intrinsic  # type: ignore[untyped-decorator]
def _byte_pointer(_context: Any, _address: Any) -> Any:  # pragma: no cover - runs inside numba's compiler
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.uint8)(types.uint64), generate


@overload(bytes_at)  # type: ignore[untyped-decorator]
def _bytes_at(address: Any, count: Any) -> Any:  # noqa: ARG001  # pragma: no cover - runs inside numba's compiler
    def implementation(address: Any, count: Any) -> Any:
        return numba.carray(_byte_pointer(np.uint64(address)), count)

    return implementation
