"""What all tests share: how hypothesis searches."""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline for one example: kernels compile at their first call, and the machine may be busy. CI repeats the same
# examples, so that a change is not blamed for what it did not do; elsewhere the search goes on at every run.
settings.register_profile("swarm", deadline=None, print_blob=True)
settings.register_profile("ci", settings.get_profile("swarm"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "swarm")
