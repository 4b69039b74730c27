from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from swarm.train.ranks.shared import FlatVectors, SharedMemory, lent

WRITER = """
import sys
from swarm.train.ranks.shared import FlatVectors
vectors = FlatVectors.of([int(one) for one in sys.argv[1:]], 5000)
vectors.local_P[:] = vectors.theta_P + 1
"""


def test_another_process_reads_and_writes_the_same_vectors() -> None:
    vectors = FlatVectors.shared(5000)
    vectors.theta_P[:] = np.arange(5000)
    descriptors = vectors.descriptors
    assert all(os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:") for descriptor in descriptors)
    subprocess.run([sys.executable, "-c", WRITER, *map(str, descriptors)], pass_fds=descriptors, check=True)
    vectors.close()
    assert (vectors.local_P == np.arange(1, 5001)).all(), "the arrays outlive the descriptors"
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_private_vectors_start_at_zero_and_are_told_apart() -> None:
    vectors = FlatVectors.private(7)
    assert not vectors.theta_P.any()
    assert vectors.theta_P.shape == vectors.local_P.shape == (7,)
    assert [vectors.index(x_P) for x_P in (vectors.theta_P, vectors.local_P)] == [0, 1]
    assert vectors.descriptors == []


def test_vectors_of_another_length_are_a_mistake() -> None:
    vectors = FlatVectors.shared(8)
    with pytest.raises(AssertionError, match="another length"):
        FlatVectors.of([os.dup(descriptor) for descriptor in vectors.descriptors], 9)
    vectors.close()


def test_lent_vectors_hold_what_they_were_given() -> None:
    given = np.arange(6, dtype=np.float32)
    with lent(("first", "second"), 6, {"second": given}) as vectors:
        assert not vectors.vectors["first"].any()
        assert (SharedMemory.of(os.dup(vectors.descriptors[1])).floats() == given).all()
        kept_P = vectors.vectors["second"]
    assert (kept_P == given).all()
