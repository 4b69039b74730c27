"""A collection does not stop a node for long."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
import swarm.node
from swarm.garbage import pass_over_what_is_there

class Loop:
    pass

before = len(gc.get_objects())
pass_over_what_is_there()
looked_at = len(gc.get_objects())
loop = Loop()
loop.itself = loop
del loop
print(before, looked_at, gc.collect())
"""


def test_collections_pass_over_libraries_and_still_find_new_garbage() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60.0)
    before, looked_at, found = map(int, told.stdout.split())
    assert before > 100_000
    assert looked_at < before / 100
    assert found >= 1
